// Starts Swagger UI on our own document. A file of its own, so that the page needs no inline script.
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: "/schema/openapi.json",
    dom_id: "#api",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    persistAuthorization: false,
    // Both would ask a server of somebody else.
    validatorUrl: null,
    queryConfigEnabled: false,
  });
});

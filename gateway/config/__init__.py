"""The configuration contract: its types (`settings`) and how a file and the environment become them (`load`)."""

"""Statements over many rows on SQLite: whatever the values, every row arrives as it was given."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from gateway.storage.bulk import Kind, columns, insert_into, run, uuid_of

COLUMNS = columns(id=Kind.ID, other=Kind.ID, text=Kind.TEXT, number=Kind.INT, flag=Kind.BOOL, octets=Kind.BYTES)
INSERT = insert_into(
    "things", COLUMNS, "RETURNING id, other, text, number, flag, octets, twice", also={"twice": "v.number * 2"}
)
# Few values, so that columns are often alike in all rows, and in some of them nothing at all.
OTHER = st.sampled_from([None, UUID(int=1), UUID(int=2)])
VALUES = st.tuples(
    OTHER,
    st.sampled_from([None, "", "a", "ä"]),
    st.sampled_from([0, 1, 2**60]),
    st.booleans(),
    st.sampled_from([None, b"", b"\x00x"]),
)


@given(st.lists(VALUES, min_size=1, max_size=70))
def test_every_row_arrives_as_it_was_given(found):
    rows = [(UUID(int=100 + place), *values) for place, values in enumerate(found)]
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE things (id BLOB PRIMARY KEY, other BLOB, text, number, flag, octets, twice)")
        told = run(conn, INSERT, rows)
    engine.dispose()
    read = [
        (uuid_of(id_), None if other is None else uuid_of(other), text, number, bool(flag), octets, twice)
        for id_, other, text, number, flag, octets, twice in told
    ]
    assert {one[0]: one for one in read} == {row[0]: (*row, row[3] * 2) for row in rows}
    assert len(read) == len(rows)

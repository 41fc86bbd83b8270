"""The system of record: tables, migrations, reads, and the only legal ways to change a row."""

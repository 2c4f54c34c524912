"""Reverse ETL: warehouse SQL in, only the changed rows out."""

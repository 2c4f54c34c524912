"""Salesforce: records of any object, written by calls of sObject Collections or by jobs of Bulk API 2.0.

Built on the REST API guide (developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/) and the Bulk API 2.0
guide (.../api_asynch.meta/api_asynch/), v62.0, read in 2026: `config` the settings · `auth` and `assertion` sessions ·
`rest` the paced, counted calls to one org · `schema` describe · `links` parents · `soql` and `finding` reading back ·
`calls` and `collections` few rows · `bulk` many, with `sheet`, `jobs`, `results` and `remembered` · `converted` leads ·
`errors` what each code means · `destination` the class that ties them together.
"""

from reverse_etl.destinations.salesforce.destination import Salesforce

__all__ = ["Salesforce"]

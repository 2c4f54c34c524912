"""Salesforce: records of any object, written through sObject Collections.

Built on the REST API guide (developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/, v62.0, read in 2026):
`config` the settings · `auth` sessions · `rest` the paced, counted calls to one org · `schema` describe ·
`soql` reading back · `collections` bodies and results of writes · `errors` what each code means ·
`destination` the class that ties them together.
"""

from reverse_etl.destinations.salesforce.destination import Salesforce

__all__ = ["Salesforce"]

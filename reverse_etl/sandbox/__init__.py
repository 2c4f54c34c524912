"""A local emulator of HubSpot and Salesforce, to try things and to test against.

It imports nothing else of this package: a client and an emulator that share code share their mistakes too.
"""

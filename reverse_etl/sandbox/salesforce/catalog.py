# ruff: noqa: E501  # a field is one line
"""The fields an org starts with, one a line: name | label | type(length or precision,scale) | flags.

Flags, apart by `;`: `ro` neither createable nor updateable, `c` createable only, `req` not nillable, `def=X` has a
default, `lookup` idLookup, `ext` external id, `unique`, `ref=User(Owner)` what it refers to and by which name,
`pick=A,B` its picklist values, `calc` calculated. Types and lengths as describe answers them for these objects
(https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta, API 62.0, November 2026).
"""

from __future__ import annotations

SOURCE = "pick=Web,Phone Inquiry,Partner Referral,Purchased List,Other"
RATING = "pick=Hot,Warm,Cold"
INDUSTRY = (
    "pick=Agriculture,Apparel,Banking,Biotechnology,Chemicals,Communications,Construction,Consulting,Education,"
    "Electronics,Energy,Engineering,Entertainment,Environmental,Finance,Food & Beverage,Government,Healthcare,"
    "Hospitality,Insurance,Machinery,Manufacturing,Media,Not For Profit,Recreation,Retail,Shipping,Technology,"
    "Telecommunications,Transportation,Utilities,Other"
)

SYSTEM = """
Id | {label} ID | id(18) | ro;req;lookup
IsDeleted | Deleted | boolean | ro;req
CreatedDate | Created Date | datetime | ro;req
CreatedById | Created By ID | reference(18) | ro;req;ref=User(CreatedBy)
LastModifiedDate | Last Modified Date | datetime | ro;req
LastModifiedById | Last Modified By ID | reference(18) | ro;req;ref=User(LastModifiedBy)
SystemModstamp | System Modstamp | datetime | ro;req
"""


def address(prefix: str, label: str) -> str:
    return f"""
{prefix}Street | {label}Street | textarea(255) |
{prefix}City | {label}City | string(40) |
{prefix}State | {label}State/Province | string(80) |
{prefix}PostalCode | {label}Zip/Postal Code | string(20) |
{prefix}Country | {label}Country | string(80) |
{prefix}Latitude | {label}Latitude | double(18,15) |
{prefix}Longitude | {label}Longitude | double(18,15) |
{prefix}Address | {label}Address | address | ro
"""


ACCOUNT = f"""
Name | Account Name | string(255) | req
Type | Account Type | picklist(40) | pick=Prospect,Customer - Direct,Customer - Channel,Channel Partner / Reseller,Installation Partner,Technology Partner,Other
ParentId | Parent Account ID | reference(18) | ref=Account(Parent)
{address("Billing", "Billing ").strip()}
{address("Shipping", "Shipping ").strip()}
Phone | Account Phone | phone(40) |
Fax | Account Fax | phone(40) |
AccountNumber | Account Number | string(40) |
Website | Website | url(255) |
Sic | SIC Code | string(20) |
Industry | Industry | picklist(40) | {INDUSTRY}
AnnualRevenue | Annual Revenue | currency(18,0) |
NumberOfEmployees | Employees | int(8) |
Ownership | Ownership | picklist(40) | pick=Public,Private,Subsidiary,Other
TickerSymbol | Ticker Symbol | string(20) |
Description | Account Description | textarea(32000) |
Rating | Account Rating | picklist(40) | {RATING}
Site | Account Site | string(80) |
OwnerId | Owner ID | reference(18) | req;def=;ref=User(Owner)
AccountSource | Account Source | picklist(40) | {SOURCE}
LastActivityDate | Last Activity | date | ro
External_Id__c | External Id | string(191) | ext;unique;lookup
"""

CONTACT = f"""
LastName | Last Name | string(80) | req
FirstName | First Name | string(40) |
Salutation | Salutation | picklist(40) | pick=Mr.,Ms.,Mrs.,Dr.,Prof.
Name | Full Name | string(121) | ro;req
AccountId | Account ID | reference(18) | ref=Account(Account)
ReportsToId | Reports To ID | reference(18) | ref=Contact(ReportsTo)
{address("Mailing", "Mailing ").strip()}
{address("Other", "Other ").strip()}
Phone | Business Phone | phone(40) |
Fax | Business Fax | phone(40) |
MobilePhone | Mobile Phone | phone(40) |
HomePhone | Home Phone | phone(40) |
OtherPhone | Other Phone | phone(40) |
AssistantPhone | Asst. Phone | phone(40) |
AssistantName | Assistant's Name | string(40) |
Email | Email | email(80) | lookup
Title | Title | string(128) |
Department | Department | string(80) |
LeadSource | Lead Source | picklist(40) | {SOURCE}
Birthdate | Birthdate | date |
Description | Contact Description | textarea(32000) |
OwnerId | Owner ID | reference(18) | req;def=;ref=User(Owner)
HasOptedOutOfEmail | Email Opt Out | boolean | req;def=
DoNotCall | Do Not Call | boolean | req;def=
LastActivityDate | Last Activity | date | ro
External_Id__c | External Id | string(191) | ext;unique;lookup
"""

LEAD = f"""
LastName | Last Name | string(80) | req
FirstName | First Name | string(40) |
Salutation | Salutation | picklist(40) | pick=Mr.,Ms.,Mrs.,Dr.,Prof.
Name | Full Name | string(121) | ro;req
Title | Title | string(128) |
Company | Company | string(255) | req
{address("", "").strip()}
Phone | Phone | phone(40) |
MobilePhone | Mobile Phone | phone(40) |
Fax | Fax | phone(40) |
Email | Email | email(80) | lookup
Website | Website | url(255) |
Description | Description | textarea(32000) |
LeadSource | Lead Source | picklist(40) | {SOURCE}
Status | Status | picklist(40) | req;def=Open - Not Contacted;pick=Open - Not Contacted,Working - Contacted,Closed - Converted,Closed - Not Converted
Industry | Industry | picklist(40) | {INDUSTRY}
Rating | Rating | picklist(40) | {RATING}
AnnualRevenue | Annual Revenue | currency(18,0) |
NumberOfEmployees | Employees | int(8) |
OwnerId | Owner ID | reference(18) | req;def=;ref=Group,User(Owner)
HasOptedOutOfEmail | Email Opt Out | boolean | req;def=
IsConverted | Converted | boolean | c;req;def=
ConvertedDate | Converted Date | date | ro
ConvertedAccountId | Converted Account ID | reference(18) | ro;ref=Account(ConvertedAccount)
ConvertedContactId | Converted Contact ID | reference(18) | ro;ref=Contact(ConvertedContact)
ConvertedOpportunityId | Converted Opportunity ID | reference(18) | ro;ref=Opportunity(ConvertedOpportunity)
IsUnreadByOwner | Unread By Owner | boolean | req;def=
LastActivityDate | Last Activity | date | ro
External_Id__c | External Id | string(191) | ext;unique;lookup
Workspaces_Total__c | Workspaces Total | double(18,0) |
Workspaces_Since_Last_Run__c | Workspaces Since Last Run | double(18,0) |
Lead_Score__c | Lead Score | double(18,0) |
"""

OPPORTUNITY = f"""
AccountId | Account ID | reference(18) | ref=Account(Account)
Name | Name | string(120) | req
Description | Description | textarea(32000) |
StageName | Stage | picklist(40) | req;pick=Prospecting,Qualification,Needs Analysis,Value Proposition,Id. Decision Makers,Perception Analysis,Proposal/Price Quote,Negotiation/Review,Closed Won,Closed Lost
Amount | Amount | currency(18,2) |
Probability | Probability (%) | percent(3,0) |
CloseDate | Close Date | date | req
Type | Opportunity Type | picklist(40) | pick=Existing Customer - Upgrade,Existing Customer - Replacement,New Customer
NextStep | Next Step | string(255) |
LeadSource | Lead Source | picklist(40) | {SOURCE}
IsClosed | Closed | boolean | ro;req;calc
IsWon | Won | boolean | ro;req;calc
OwnerId | Owner ID | reference(18) | req;def=;ref=User(Owner)
External_Id__c | External Id | string(191) | ext;unique;lookup
"""

CAMPAIGN = """
Name | Name | string(80) | req
ParentId | Parent Campaign ID | reference(18) | ref=Campaign(Parent)
Type | Type | picklist(40) | pick=Conference,Webinar,Trade Show,Public Relations,Partners,Referral Program,Advertisement,Banner Ads,Direct Mail,Email,Telemarketing,Other
Status | Status | picklist(40) | def=Planned;pick=Planned,In Progress,Completed,Aborted
StartDate | Start Date | date |
EndDate | End Date | date |
ExpectedRevenue | Expected Revenue in Campaign | currency(18,0) |
BudgetedCost | Budgeted Cost in Campaign | currency(18,0) |
ActualCost | Actual Cost in Campaign | currency(18,0) |
ExpectedResponse | Expected Response (%) | percent(10,2) |
NumberSent | Num Sent in Campaign | double(18,0) |
IsActive | Active | boolean | req;def=
Description | Description | textarea(32000) |
OwnerId | Owner ID | reference(18) | req;def=;ref=User(Owner)
External_Id__c | External Id | string(191) | ext;unique;lookup
"""

CAMPAIGN_MEMBER = """
CampaignId | Campaign ID | reference(18) | c;req;ref=Campaign(Campaign)
LeadId | Lead ID | reference(18) | c;ref=Lead(Lead)
ContactId | Contact ID | reference(18) | c;ref=Contact(Contact)
Status | Status | picklist(40) | def=Sent;pick=Sent,Responded
HasResponded | Responded | boolean | ro;req
FirstRespondedDate | First Responded Date | date | ro
External_Id__c | External Id | string(191) | ext;unique;lookup
"""

# What every custom object has beside its own fields.
CUSTOM = """
Name | Name | string(80) |
OwnerId | Owner ID | reference(18) | req;def=;ref=Group,User(Owner)
"""

USER = """
Username | Username | string(80) | req;lookup
LastName | Last Name | string(80) | req
FirstName | First Name | string(40) |
Name | Full Name | string(121) | ro;req
Email | Email | email(128) | req;lookup
IsActive | Active | boolean | req;def=
"""

# name, label, plural label, key prefix, lines
STANDARD = [
    ("Account", "Account", "Accounts", "001", ACCOUNT),
    ("Contact", "Contact", "Contacts", "003", CONTACT),
    ("Lead", "Lead", "Leads", "00Q", LEAD),
    ("Opportunity", "Opportunity", "Opportunities", "006", OPPORTUNITY),
    ("Campaign", "Campaign", "Campaigns", "701", CAMPAIGN),
    ("CampaignMember", "Campaign Member", "Campaign Members", "00v", CAMPAIGN_MEMBER),
    ("User", "User", "Users", "005", USER),
]

# ruff: noqa: E501  # a field is one line
"""The properties a portal starts with, one a line: name | label | type | field type | group | flags | options.

Flags: `ro` its value is read-only, `calc` calculated, `hidden`, `unique` hasUniqueValue, `custom` made by the
account's users, `ext:X` options come from elsewhere (owners, pipelines). Options are `value=label`, split by commas.
Names, types and flags follow what the CRM's property API answers for a fresh account
(https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide, November 2026).
"""

from __future__ import annotations

LIFECYCLE = (
    "subscriber=Subscriber,lead=Lead,marketingqualifiedlead=Marketing Qualified Lead,"
    "salesqualifiedlead=Sales Qualified Lead,opportunity=Opportunity,customer=Customer,evangelist=Evangelist,other=Other"
)
INDUSTRY = (
    "ACCOUNTING=Accounting,AIRLINES_AVIATION=Airlines/Aviation,AUTOMOTIVE=Automotive,BANKING=Banking,"
    "BIOTECHNOLOGY=Biotechnology,CHEMICALS=Chemicals,COMPUTER_SOFTWARE=Computer Software,CONSTRUCTION=Construction,"
    "CONSUMER_GOODS=Consumer Goods,EDUCATION_MANAGEMENT=Education Management,FINANCIAL_SERVICES=Financial Services,"
    "FOOD_BEVERAGES=Food & Beverages,HOSPITAL_HEALTH_CARE=Hospital & Health Care,INSURANCE=Insurance,"
    "INFORMATION_TECHNOLOGY_AND_SERVICES=Information Technology and Services,INTERNET=Internet,"
    "LOGISTICS_AND_SUPPLY_CHAIN=Logistics and Supply Chain,MACHINERY=Machinery,"
    "MANAGEMENT_CONSULTING=Management Consulting,MARKETING_AND_ADVERTISING=Marketing and Advertising,"
    "NON_PROFIT_ORGANIZATION_MANAGEMENT=Non-Profit Organization Management,OIL_ENERGY=Oil & Energy,"
    "REAL_ESTATE=Real Estate,RETAIL=Retail,TELECOMMUNICATIONS=Telecommunications,"
    "TRANSPORTATION_TRUCKING_RAILROAD=Transportation/Trucking/Railroad,UTILITIES=Utilities,WHOLESALE=Wholesale"
)
SOURCE = (
    "ORGANIC_SEARCH=Organic Search,PAID_SEARCH=Paid Search,EMAIL_MARKETING=Email Marketing,"
    "SOCIAL_MEDIA=Organic Social,REFERRALS=Referrals,OTHER_CAMPAIGNS=Other Campaigns,DIRECT_TRAFFIC=Direct Traffic,"
    "OFFLINE=Offline Sources,PAID_SOCIAL=Paid Social"
)
PLANS = "free=Free,pro=Pro,team=Team,enterprise=Enterprise"

SYSTEM = """
hs_object_id | Record ID | number | number | {group} | ro,calc |
createdate | Create Date | datetime | date | {group} | ro |
hs_createdate | Object create date/time | datetime | date | {group} | ro,hidden |
hs_object_source | Record creation source | string | text | {group} | ro,hidden |
hs_object_source_label | Record source | enumeration | select | {group} | ro | API=API,CRM_UI=CRM UI,IMPORT=Import,INTEGRATION=Integration
hs_unique_creation_key | Unique creation key | string | text | {group} | ro,hidden,unique |
hs_merged_object_ids | Merged record IDs | enumeration | checkbox | {group} | ro,calc |
hs_all_owner_ids | All owner IDs | enumeration | checkbox | {group} | ro,calc,hidden,ext:OWNER |
hs_updated_by_user_id | Updated by user ID | number | number | {group} | ro |
hubspot_owner_id | Owner | enumeration | select | {group} | ext:OWNER |
hubspot_owner_assigneddate | Owner assigned date | datetime | date | {group} | ro |
hubspot_team_id | HubSpot Team | enumeration | select | {group} | ro,ext:TEAM |
"""

CONTACTS = f"""
email | Email | string | text | contactinformation | |
firstname | First Name | string | text | contactinformation | |
lastname | Last Name | string | text | contactinformation | |
salutation | Salutation | string | text | contactinformation | |
phone | Phone Number | string | phonenumber | contactinformation | |
mobilephone | Mobile Phone Number | string | phonenumber | contactinformation | |
fax | Fax Number | string | phonenumber | contactinformation | |
company | Company Name | string | text | contactinformation | |
website | Website URL | string | text | contactinformation | |
jobtitle | Job Title | string | text | contactinformation | |
address | Street Address | string | text | contactinformation | |
city | City | string | text | contactinformation | |
state | State/Region | string | text | contactinformation | |
zip | Postal Code | string | text | contactinformation | |
country | Country/Region | string | text | contactinformation | |
industry | Industry | string | text | contactinformation | |
annualrevenue | Annual Revenue | string | text | contactinformation | |
numemployees | Number of Employees | enumeration | select | contactinformation | | 1-5=1-5,5-25=5-25,25-50=25-50,50-100=50-100,100-500=100-500,500-1000=500-1000,1000+=1000+
message | Message | string | textarea | contactinformation | |
date_of_birth | Date of Birth | string | text | contactinformation | |
hs_language | Preferred language | enumeration | select | contactinformation | | en=English,de=German,fr=French,es=Spanish,it=Italian,nl=Dutch,pt=Portuguese,ja=Japanese
hs_timezone | Time Zone | enumeration | select | contactinformation | | utc=UTC,europe_slash_berlin=UTC +01:00 Europe Berlin,america_slash_new_york=UTC -05:00 America New York
hs_persona | Persona | enumeration | radio | contactinformation | | persona_1=Builder,persona_2=Buyer
lifecyclestage | Lifecycle Stage | enumeration | radio | contactinformation | | {LIFECYCLE}
hs_lead_status | Lead Status | enumeration | radio | sales_properties | | NEW=New,OPEN=Open,IN_PROGRESS=In Progress,OPEN_DEAL=Open Deal,UNQUALIFIED=Unqualified,ATTEMPTED_TO_CONTACT=Attempted to Contact,CONNECTED=Connected,BAD_TIMING=Bad Timing
hs_buying_role | Buying Role | enumeration | checkbox | sales_properties | | BLOCKER=Blocker,BUDGET_HOLDER=Budget Holder,CHAMPION=Champion,DECISION_MAKER=Decision Maker,END_USER=End User,INFLUENCER=Influencer
hs_additional_emails | Additional email addresses | enumeration | checkbox | contactinformation | ro,calc |
hs_email_domain | Email Domain | string | text | contactinformation | ro,calc |
hs_full_name_or_email | Full name or email | string | calculation_equation | contactinformation | ro,calc,hidden |
hs_marketable_status | Marketing contact status | enumeration | booleancheckbox | contactinformation | ro | true=Marketing contact,false=Non-marketing contact
hs_email_optout | Unsubscribed from all email | bool | booleancheckbox | emailinformation | ro | true=True,false=False
hs_is_unworked | Contact unworked | bool | calculation_equation | sales_properties | ro,calc | true=True,false=False
hs_content_membership_notes | Membership Notes | string | textarea | contactinformation | |
hs_analytics_source | Original Traffic Source | enumeration | select | analyticsinformation | ro | {SOURCE}
hs_analytics_num_page_views | Number of Pageviews | number | number | analyticsinformation | ro |
hs_analytics_first_timestamp | Time First Seen | datetime | date | analyticsinformation | ro |
hs_latest_source | Latest Traffic Source | enumeration | select | analyticsinformation | | {SOURCE}
hubspotscore | HubSpot Score | number | calculation_score | contactinformation | ro,calc |
associatedcompanyid | Primary Associated Company ID | number | number | contactinformation | |
num_associated_deals | Number of Associated Deals | number | calculation_rollup | contactinformation | ro,calc |
num_notes | Number of Sales Activities | number | number | sales_properties | ro |
notes_last_contacted | Last Contacted | datetime | date | sales_properties | ro |
notes_last_updated | Last Activity Date | datetime | date | sales_properties | ro |
closedate | Close Date | datetime | date | contactinformation | |
first_deal_created_date | First Deal Created Date | datetime | date | contactinformation | ro,calc |
recent_deal_amount | Recent Deal Amount | number | number | contactinformation | ro,calc |
total_revenue | Total Revenue | number | number | contactinformation | ro,calc |
lastmodifieddate | Last Modified Date | datetime | date | contactinformation | ro |
app_user_id | App user ID | string | text | contactinformation | custom,unique |
workspaces_total | Workspaces (total) | number | number | contactinformation | custom |
workspaces_since_last_run | Workspaces since the last run | number | number | contactinformation | custom |
plan | Plan | enumeration | select | contactinformation | custom | {PLANS}
last_active_at | Last active at | datetime | date | contactinformation | custom |
first_workspace_at | First workspace on | date | date | contactinformation | custom |
"""

COMPANIES = f"""
name | Company name | string | text | companyinformation | |
domain | Company Domain Name | string | text | companyinformation | |
website | Website URL | string | text | companyinformation | |
phone | Phone Number | string | phonenumber | companyinformation | |
description | Description | string | textarea | companyinformation | |
about_us | About Us | string | textarea | companyinformation | |
address | Street Address | string | text | companyinformation | |
address2 | Street Address 2 | string | text | companyinformation | |
city | City | string | text | companyinformation | |
state | State/Region | string | text | companyinformation | |
zip | Postal Code | string | text | companyinformation | |
country | Country/Region | string | text | companyinformation | |
timezone | Time Zone | string | text | companyinformation | |
industry | Industry | enumeration | select | companyinformation | | {INDUSTRY}
type | Type | enumeration | radio | companyinformation | | PROSPECT=Prospect,PARTNER=Partner,RESELLER=Reseller,VENDOR=Vendor,OTHER=Other
numberofemployees | Number of Employees | number | number | companyinformation | |
annualrevenue | Annual Revenue | number | number | companyinformation | |
founded_year | Year Founded | string | text | companyinformation | |
is_public | Is Public | bool | booleancheckbox | companyinformation | | true=True,false=False
linkedin_company_page | LinkedIn Company Page | string | text | companyinformation | |
twitterhandle | X Handle | string | text | companyinformation | |
lifecyclestage | Lifecycle Stage | enumeration | radio | companyinformation | | {LIFECYCLE}
hs_lead_status | Lead Status | enumeration | radio | companyinformation | | NEW=New,OPEN=Open,IN_PROGRESS=In Progress,OPEN_DEAL=Open Deal,UNQUALIFIED=Unqualified,CONNECTED=Connected
hs_ideal_customer_profile | Ideal Customer Profile Tier | enumeration | select | companyinformation | | tier_1=Tier 1,tier_2=Tier 2,tier_3=Tier 3
hs_additional_domains | Additional Domains | enumeration | checkbox | companyinformation | ro,calc |
hs_num_child_companies | Number of child companies | number | number | companyinformation | ro,calc |
num_associated_contacts | Number of Associated Contacts | number | calculation_rollup | companyinformation | ro,calc |
num_associated_deals | Number of Associated Deals | number | calculation_rollup | companyinformation | ro,calc |
total_revenue | Total Revenue | number | number | companyinformation | ro,calc |
closedate | Close Date | datetime | date | companyinformation | |
notes_last_contacted | Last Contacted | datetime | date | companyinformation | ro |
hs_lastmodifieddate | Last Modified Date | datetime | date | companyinformation | ro |
app_company_id | App company ID | string | text | companyinformation | custom,unique |
"""

DEALS = """
dealname | Deal Name | string | text | dealinformation | |
amount | Amount | number | number | dealinformation | |
dealstage | Deal Stage | enumeration | radio | dealinformation | ext:STAGE |
pipeline | Pipeline | enumeration | select | dealinformation | ext:PIPELINE |
closedate | Close Date | datetime | date | dealinformation | |
deal_currency_code | Currency | enumeration | select | dealinformation | | USD=USD,EUR=EUR,GBP=GBP
dealtype | Deal Type | enumeration | radio | dealinformation | | newbusiness=New Business,existingbusiness=Existing Business
description | Deal Description | string | textarea | dealinformation | |
hs_priority | Priority | enumeration | select | dealinformation | | low=Low,medium=Medium,high=High
hs_next_step | Next step | string | text | dealinformation | |
closed_lost_reason | Closed Lost Reason | string | textarea | dealinformation | |
closed_won_reason | Closed Won Reason | string | textarea | dealinformation | |
hs_is_closed | Is Deal Closed? | bool | calculation_equation | dealinformation | ro,calc | true=True,false=False
hs_is_closed_won | Is Closed Won | bool | calculation_equation | dealinformation | ro,calc | true=True,false=False
hs_forecast_amount | Forecast amount | number | calculation_equation | dealinformation | ro,calc |
hs_deal_stage_probability | Deal probability | number | number | dealinformation | ro,calc |
days_to_close | Days to close | number | calculation_equation | dealinformation | ro,calc |
num_associated_contacts | Number of Associated Contacts | number | calculation_rollup | dealinformation | ro,calc |
hs_lastmodifieddate | Last Modified Date | datetime | date | dealinformation | ro |
"""

TICKETS = """
subject | Ticket name | string | text | ticketinformation | |
content | Ticket description | string | textarea | ticketinformation | |
hs_pipeline | Pipeline | enumeration | select | ticketinformation | ext:PIPELINE |
hs_pipeline_stage | Ticket status | enumeration | select | ticketinformation | ext:STAGE |
hs_ticket_priority | Priority | enumeration | select | ticketinformation | | LOW=Low,MEDIUM=Medium,HIGH=High,URGENT=Urgent
hs_ticket_category | Category | enumeration | checkbox | ticketinformation | | PRODUCT_ISSUE=Product Issue,BILLING_ISSUE=Billing Issue,FEATURE_REQUEST=Feature Request,GENERAL_INQUIRY=General Inquiry
hs_resolution | Resolution | enumeration | select | ticketinformation | | ISSUE_FIXED=Issue fixed,TICKET_DISPUTED=Ticket disputed,OTHER=Other
source_type | Source | enumeration | select | ticketinformation | | CHAT=Chat,EMAIL=Email,FORM=Form,PHONE=Phone
closed_date | Close date | datetime | date | ticketinformation | ro |
time_to_close | Time to close | number | calculation_equation | ticketinformation | ro,calc |
hs_lastmodifieddate | Last Modified Date | datetime | date | ticketinformation | ro |
"""

PRODUCTS = """
name | Name | string | text | productinformation | |
description | Product description | string | textarea | productinformation | |
price | Unit price | number | number | productinformation | |
hs_sku | SKU | string | text | productinformation | |
hs_cost_of_goods_sold | Unit cost | number | number | productinformation | |
hs_url | URL | string | text | productinformation | |
hs_product_type | Product type | enumeration | select | productinformation | | inventory=Inventory,non_inventory=Non-inventory,service=Service
recurringbillingfrequency | Billing frequency | enumeration | select | productinformation | | monthly=Monthly,quarterly=Quarterly,annually=Annually
tax | Tax | number | number | productinformation | |
hs_lastmodifieddate | Last Modified Date | datetime | date | productinformation | ro |
"""

LINE_ITEMS = """
name | Name | string | text | lineiteminformation | |
description | Description | string | textarea | lineiteminformation | |
hs_product_id | Product ID | number | number | lineiteminformation | |
quantity | Quantity | number | number | lineiteminformation | |
price | Unit price | number | number | lineiteminformation | |
amount | Net price | number | number | lineiteminformation | |
discount | Unit discount | number | number | lineiteminformation | |
hs_sku | SKU | string | text | lineiteminformation | |
hs_line_item_currency_code | Currency | enumeration | select | lineiteminformation | | USD=USD,EUR=EUR,GBP=GBP
recurringbillingfrequency | Billing frequency | enumeration | select | lineiteminformation | | monthly=Monthly,quarterly=Quarterly,annually=Annually
hs_lastmodifieddate | Last Modified Date | datetime | date | lineiteminformation | ro |
"""

CUSTOM_OBJECT = """
hs_lastmodifieddate | Last Modified Date | datetime | date | {group} | ro |
"""

# name, type id, the name in the platform's messages, group of the system properties, needed on create, properties
STANDARD = [
    ("contacts", "0-1", "CONTACT", "contactinformation", ("email", "firstname", "lastname"), CONTACTS),
    ("companies", "0-2", "COMPANY", "companyinformation", ("name", "domain"), COMPANIES),
    ("deals", "0-3", "DEAL", "dealinformation", (), DEALS),
    ("tickets", "0-5", "TICKET", "ticketinformation", (), TICKETS),
    ("products", "0-7", "PRODUCT", "productinformation", (), PRODUCTS),
    ("line_items", "0-8", "LINE_ITEM", "lineiteminformation", (), LINE_ITEMS),
]

ALL_NEEDED = {"deals": ("dealname", "dealstage"), "tickets": ("subject", "hs_pipeline_stage")}

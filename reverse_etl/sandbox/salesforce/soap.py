"""SOAP `login()`, which older clients open their sessions with. It is gone from API version 65 on.

https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_login.htm (November 2026)
"""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree

from reverse_etl.sandbox.messages import Request, Response
from reverse_etl.sandbox.salesforce.auth import PASSWORD, SECURITY_TOKEN, SESSION, USERNAME, Sessions
from reverse_etl.sandbox.salesforce.org import ORG_ID, USER_ID

XML = "text/xml; charset=utf-8"
PARTNER = "{urn:partner.soap.sforce.com}"
LAST_VERSION = 64.0
BAD_LOGIN = "Invalid username, password, security token; or user locked out."

# Both widespread clients look for these elements by their bare names.
GRANTED = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com">
<soapenv:Body><loginResponse><result>
<metadataServerUrl>{origin}/services/Soap/m/{version}/{org}</metadataServerUrl>
<passwordExpired>false</passwordExpired><sandbox>false</sandbox>
<serverUrl>{origin}/services/Soap/u/{version}/{org}</serverUrl>
<sessionId>{session}</sessionId><userId>{user}</userId>
<userInfo><organizationId>{org}</organizationId><sessionSecondsValid>{seconds}</sessionSecondsValid>
<userId>{user}</userId><userName>{name}</userName></userInfo>
</result></loginResponse></soapenv:Body></soapenv:Envelope>"""

FAULT = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:sf="urn:fault.partner.soap.sforce.com">
<soapenv:Body><soapenv:Fault><faultcode>sf:{code}</faultcode><faultstring>{code}: {message}</faultstring>
<detail><sf:LoginFault><sf:exceptionCode>{code}</sf:exceptionCode>
<sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail>
</soapenv:Fault></soapenv:Body></soapenv:Envelope>"""


def answer(request: Request, version: str, sessions: Sessions, origin: str) -> Response:
    """Answers `POST /services/Soap/u/{version}`; it knows no other call than login."""
    try:
        login = ElementTree.fromstring(request.body).find(f".//{PARTNER}login")  # noqa: S314  # loopback only
    except ElementTree.ParseError as error:
        return _fault("INVALID_SOAP", f"the body is no XML: {error}")
    if login is None:
        return _fault("INVALID_OPERATION", "this sandbox answers login only")
    if not version.replace(".", "", 1).isdecimal() or float(version) > LAST_VERSION:
        return _fault("UNSUPPORTED_API_VERSION", f"login() is not available in API version {version}")
    name, password = login.findtext(f"{PARTNER}username"), login.findtext(f"{PARTNER}password")
    if name != USERNAME or password not in (PASSWORD, PASSWORD + SECURITY_TOKEN):
        return _fault("INVALID_LOGIN", BAD_LOGIN)
    text = GRANTED.format(
        origin=escape(origin),
        version=version,
        org=ORG_ID,
        user=USER_ID,
        name=USERNAME,
        session=escape(sessions.open()),
        seconds=int(SESSION),
    )
    return Response(200, text.encode(), XML)


def _fault(code: str, message: str) -> Response:
    return Response(500, FAULT.format(code=code, message=escape(message)).encode(), XML)

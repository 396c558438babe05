"""HTTP to one URL and nowhere else: redirects are not followed.

Whoever fetches or posts loads this when it is wanted, not before: what of the standard library stands behind it takes
half a megabyte, which a gateway without issuers and webhooks need not have.
"""

from urllib.request import HTTPRedirectHandler, OpenerDirector, build_opener


def opener() -> OpenerDirector:
    """urllib's, for which a redirect is an HTTPError as any other status that is no success."""
    return build_opener(_NoRedirect)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None

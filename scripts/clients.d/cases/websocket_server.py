"""Autobahn's test cases of the WebSocket protocol, as kosoku runs them, against a WebSocket that ends at the proxy.

The server's side is the proxy's own; a bundled plugin sends every message back. What the cases call non-strict, or left
open by the RFC, passes and is listed; so is what needs compression (RFC 7692), which the proxy does not agree on.
"""

import asyncio
import os

import kosoku

from checks import Failed, NotAvailable, expect_same
from harness import case

LIBRARY = "libweb_server_route.so"
ROUTE = "/ws-route-example"
CASES_AT_ONCE = 4


def _url(context):
    """The echo of a proxy of this case's own."""
    beside = os.path.dirname(context.world.executable)
    if not any(os.path.exists(os.path.join(beside, place, LIBRARY)) for place in ("plugins", "")):
        raise NotAvailable(f"no {LIBRARY} beside {context.world.executable}")
    proxy = context.start("--plugins", LIBRARY)
    return f"ws://127.0.0.1:{proxy.port}{ROUTE}"


def outcomes(url, included, excluded=()):
    """Runs the cases; returns their results, good and bad."""
    async def run():
        return await kosoku.run_fuzzingclient(url, list(included), list(excluded), concurrency=CASES_AT_ONCE)

    try:
        return asyncio.run(run())
    except kosoku.FailureError as failure:
        return failure.results


def verdict(result):
    """What became of a case: of its messages, and of its end if there is something to say about that."""
    behavior, close = result.behavior.value, result.behavior_close.value
    if behavior == "UNIMPLEMENTED" or close in ("OK", "INFORMATIONAL"):
        return behavior
    return f"{behavior}, then {close}"


def expect_conformance(results, tolerated):
    """Fails unless every case has one of these verdicts; lists those that are not simply OK."""
    by_verdict = {}
    for result in results:
        by_verdict.setdefault(verdict(result), []).append(result)
    for name, found in by_verdict.items():
        if name in tolerated and name != "OK":
            print(f"    {name}: {' '.join(result.case_id for result in found)}")
    wrong = [f"{result.case_id} {name}: {result.result} {result.result_close}"
             for name, found in by_verdict.items() if name not in tolerated for result in found]
    if wrong:
        raise Failed("\n".join([f"{len(wrong)} of {len(results)} cases:", *wrong]))
    if not results:
        raise Failed("no case was run")


@case("websocket-server", "frames, pings, text, fragments, closes")
def speaks_the_protocol(context):
    results = outcomes(_url(context), ["*"], ["9.*", "12.*", "13.*"])
    expect_conformance(results, ("OK", "NON-STRICT", "INFORMATIONAL"))


@case("websocket-server", "large messages, and many")
def takes_large_messages(context):
    expect_conformance(outcomes(_url(context), ["9.*"]), ("OK",))


@case("websocket-server", "compression is offered and not agreed on")
def declines_compression(context):
    results = outcomes(_url(context), ["12.*", "13.*"])
    expect_same("verdicts", {verdict(result) for result in results}, {"UNIMPLEMENTED"})

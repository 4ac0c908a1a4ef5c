"""gRPC through the proxy: HTTP/2 at both ends, trailers, streams that flow both ways at once.

Its server takes nothing but `h2` and ends the handshake of those who do not offer it. Messages are plain bytes, so that
no compiler of schemas is needed.
"""

import contextlib
import concurrent.futures
import queue
import time

import certificates
import grpc

from checks import Failed, expect_same
from harness import case
from website import random_text

SECONDS = 20
QUIET_SECONDS = 30


def _answer_one(message, call):
    if message == b"fail":
        call.set_trailing_metadata((("x-trailer", "failed"),))
        call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of \u00e4")
    call.set_trailing_metadata((("x-trailer", "fine"), ("x-binary-bin", b"\x00\xff")))
    return message[::-1]


def _answer_many(message, _):
    for number in range(int(message)):
        yield b"%d" % number


def _answer_each(messages, _):
    for message in messages:
        yield message[::-1]


def _watch(messages, _):
    """Talks alone for half a minute; the client has said one thing and has not ended."""
    yield next(messages)
    for number in range(QUIET_SECONDS):
        time.sleep(1)
        yield b"%d" % number
    yield from messages


def _sum(messages, _):
    """Says nothing before the client has ended."""
    return b"%d" % sum(1 for _ in messages)


class _Service(grpc.GenericRpcHandler):
    HANDLERS = {
        "/clients.Test/One": grpc.unary_unary_rpc_method_handler(_answer_one),
        "/clients.Test/Many": grpc.unary_stream_rpc_method_handler(_answer_many),
        "/clients.Test/Each": grpc.stream_stream_rpc_method_handler(_answer_each),
        "/clients.Test/Sum": grpc.stream_unary_rpc_method_handler(_sum),
        "/clients.Test/Watch": grpc.stream_stream_rpc_method_handler(_watch),
    }

    def service(self, details):
        return self.HANDLERS.get(details.method)


@contextlib.contextmanager
def _channel(context, proxy=None):
    """A channel through a proxy to a server of its own; also the server's port."""
    cert_file, key_file = certificates.server(context.world.origin_authority).write(context.directory, "grpc")
    with open(key_file, "rb") as key, open(cert_file, "rb") as cert, open(context.ca_file, "rb") as authority:
        server_credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
        credentials = grpc.ssl_channel_credentials(root_certificates=authority.read())
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), [_Service()],
                         options=[("grpc.max_receive_message_length", -1)])
    port = server.add_secure_port("127.0.0.1:0", server_credentials)
    server.start()
    options = [("grpc.http_proxy", (proxy or context.proxy).url), ("grpc.max_receive_message_length", -1)]
    try:
        with grpc.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
            yield channel, port
    finally:
        server.stop(0).wait()


@case("grpc", "one message each way, trailers, an error in trailers")
def calls(context):
    with _channel(context) as (channel, port):
        call_one = channel.unary_unary("/clients.Test/One")
        answer, call = call_one.with_call(b"message", timeout=SECONDS)
        expect_same("the answer", answer, b"egassem")
        trailers = dict(call.trailing_metadata())
        expect_same("the trailers", (trailers["x-trailer"], trailers["x-binary-bin"]), ("fine", b"\x00\xff"))
        content = random_text(4 << 20)
        expect_same("whether 4 MiB come back", call_one(content, timeout=SECONDS) == content[::-1], True)
        try:
            call_one(b"fail", timeout=SECONDS)
        except grpc.RpcError as error:
            expect_same("status and message", (error.code(), error.details()),
                        (grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of \u00e4"))
            expect_same("the trailer", dict(error.trailing_metadata())["x-trailer"], "failed")
        else:
            raise Failed("the error has not arrived")
        context.proxy.expect_access("POST", "localhost", port, "/clients.Test/One")


@case("grpc", "a stream of 10,000 messages")
def receives_stream(context):
    with _channel(context) as (channel, _):
        answers = channel.unary_stream("/clients.Test/Many")(b"10000", timeout=SECONDS)
        expect_same("the answers", list(answers) == [b"%d" % number for number in range(10000)], True)


@case("grpc", "a conversation: each message is answered before the next")
def converses(context):
    with _channel(context) as (channel, _):
        questions = queue.Queue()
        answers = channel.stream_stream("/clients.Test/Each")(iter(questions.get, None), timeout=SECONDS)
        for number in range(200):
            questions.put(b"message %d" % number)
            expect_same("the answer", next(answers), (b"message %d" % number)[::-1])
        questions.put(None)
        expect_same("what follows the last answer", list(answers), [])


@case("grpc", "a stream that is quiet on one side for 30 s")
def is_quiet_on_one_side(context):
    with _channel(context, context.start("--timeout", "5")) as (channel, _):
        # On the first stream only the client sends, on the second only the server.
        total = channel.stream_unary("/clients.Test/Sum").future(_slowly(QUIET_SECONDS), timeout=2 * QUIET_SECONDS)
        said = queue.Queue()
        answers = channel.stream_stream("/clients.Test/Watch")(iter(said.get, None), timeout=2 * QUIET_SECONDS)
        said.put(b"begin")
        expected = [b"begin", *(b"%d" % number for number in range(QUIET_SECONDS))]
        expect_same("what the server says", [next(answers) for _ in expected], expected)
        said.put(b"end")
        said.put(None)
        expect_same("the last answer", list(answers), [b"end"])
        expect_same("the answer to what the client says", total.result(), b"%d" % QUIET_SECONDS)


def _slowly(count):
    for number in range(count):
        time.sleep(1)
        yield b"%d" % number


@case("grpc", "50 calls at once, and calls that are given up")
def calls_at_once(context):
    with _channel(context) as (channel, _):
        call_one = channel.unary_unary("/clients.Test/One")
        calls = [call_one.future(b"%d" % number, timeout=SECONDS) for number in range(50)]
        expect_same("the answers", [call.result() for call in calls], [(b"%d" % number)[::-1] for number in range(50)])
        for _ in range(20):
            answers = channel.unary_stream("/clients.Test/Many")(b"1000000", timeout=SECONDS)
            next(answers)
            answers.cancel()
        expect_same("the answer afterwards", call_one(b"message", timeout=SECONDS), b"egassem")

"""git over https: both protocols of HTTP, clones with and without its smart protocol, and a push."""

import os
import re

from checks import expect_match, expect_same
from harness import case
from website import random_text

COMMITS = 30
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@localhost", "GIT_COMMITTER_NAME": "a",
       "GIT_COMMITTER_EMAIL": "a@localhost", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


def git(context, *arguments, directory=None):
    """Runs git; returns what it wrote."""
    done = context.run(["git", *arguments], WHO, directory=directory)
    return done.stdout.decode(), done.stderr.decode(errors="replace")


def _through(context, proxy, version="HTTP/2"):
    """The settings that lead git through the proxy."""
    settings = [f"http.proxy={proxy.url}", f"http.sslCAInfo={context.ca_file}", f"http.version={version}"]
    if proxy.url.startswith("https:"):
        settings.append(f"http.proxySSLCAInfo={context.listener_ca_file}")
    return [word for setting in settings for word in ("-c", setting)]


def _repository(context):
    """A repository at the origin with some history and a file of 3 MiB; returns its name and its last commit."""
    name = os.path.basename(context.directory) + ".git"
    bare = os.path.join(context.origins.git_root, name)
    work = os.path.join(context.directory, "work")
    git(context, "init", "--quiet", "--initial-branch=main", work)
    context.write("work/large", random_text(3 << 20))
    for number in range(COMMITS):
        context.write(f"work/file-{number % 7}", f"{number}\n" * 100)
        git(context, "add", ".", directory=work)
        git(context, "commit", "--quiet", "-m", f"change {number}", directory=work)
    git(context, "clone", "--quiet", "--bare", work, bare)
    git(context, "config", "http.receivepack", "true", directory=bare)
    git(context, "update-server-info", directory=bare)
    return name, git(context, "rev-parse", "main", directory=work)[0].strip()


def _expect_clone(context, clone, commit):
    expect_same("the last commit", git(context, "rev-parse", "HEAD", directory=clone)[0].strip(), commit)
    expect_same("the commits", git(context, "rev-list", "--count", "HEAD", directory=clone)[0].strip(), str(COMMITS))
    git(context, "fsck", "--strict", directory=clone)


def _clones(context, proxy, version, origin="any"):
    name, commit = _repository(context)
    clone = os.path.join(context.directory, "clone")
    verbose = context.run(["git", *_through(context, proxy, version), "clone", context.url(origin, f"/git/{name}"),
                           clone], WHO | {"GIT_CURL_VERBOSE": "1", "GIT_TRACE_CURL_NO_DATA": "1"})
    issuers = re.findall(r"issuer: .*?CN=(.*)$", verbose.stderr.decode(errors="replace"), re.M)
    expect_same("the issuer of the last certificate", issuers[-1:], [context.issuer_name])
    _expect_clone(context, clone, commit)
    context.expect_access(proxy, "GET", origin, f"/git/{name}/info/refs?service=git-upload-pack")
    context.expect_access(proxy, "POST", origin, f"/git/{name}/git-upload-pack")


@case("git", "clone, HTTP/1.1")
def clones_http1(context):
    _clones(context, context.proxy, "HTTP/1.1")


@case("git", "clone, HTTP/2")
def clones_http2(context):
    _clones(context, context.proxy, "HTTP/2")


@case("git", "clone over a proxy of TLS")
def clones_over_tls_proxy(context):
    _clones(context, context.tls_proxy, "HTTP/2")


@case("git", "clone without the smart protocol, file by file")
def clones_files(context):
    name, commit = _repository(context)
    clone = os.path.join(context.directory, "clone")
    # Unpack the objects, so that there are many small files to fetch.
    bare = os.path.join(context.origins.git_root, name)
    packs = os.path.join(bare, "objects", "pack")
    for pack in [file for file in os.listdir(packs) if file.endswith(".pack")]:
        moved = os.path.join(context.directory, pack)
        os.rename(os.path.join(packs, pack), moved)
        with open(moved, "rb") as content:
            context.run(["git", "unpack-objects", "-q"], WHO, directory=bare, stdin=content.read())
    for file in os.listdir(packs):
        os.remove(os.path.join(packs, file))
    git(context, "update-server-info", directory=bare)
    context.run(["git", *_through(context, context.proxy), "clone", context.url("any", f"/git/{name}"), clone],
                WHO | {"GIT_SMART_HTTP": "0"})
    _expect_clone(context, clone, commit)
    expect_match("the access log", "\n".join(context.proxy.lines()), rf"GET localhost:\d+/git/{name}/objects/../")


@case("git", "push")
def pushes(context):
    name, _ = _repository(context)
    clone = os.path.join(context.directory, "clone")
    through = _through(context, context.proxy)
    git(context, *through, "clone", "--quiet", context.url("any", f"/git/{name}"), clone)
    context.write("clone/more", random_text(2 << 20))
    git(context, "add", ".", directory=clone)
    git(context, "commit", "--quiet", "-m", "more", directory=clone)
    git(context, *through, "push", "--quiet", "origin", "main", directory=clone)
    pushed = git(context, "rev-parse", "HEAD", directory=clone)[0]
    arrived = git(context, "rev-parse", "main", directory=os.path.join(context.origins.git_root, name))[0]
    expect_same("the commit at the origin", arrived, pushed)
    context.expect_access(context.proxy, "POST", "any", f"/git/{name}/git-receive-pack")

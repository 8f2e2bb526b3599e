"""test_tls.py -- a cluster of three nodes with certificates, and everybody who has the wrong ones."""

import os
import shutil
import ssl
import subprocess

from rig import ConnectionLost, Node, connect, expect, folder, http, main, wait_for


def ctl(options, *words):
    done = subprocess.run([os.path.join(options.bin, "dsqlctl"), *words], capture_output=True,
                          text=True, check=False)
    expect(done.returncode == 0, f"{words}: {done.stderr}")


def make_certs(options, path, users=("root",)):
    """A directory with everything; nodes get theirs without the CA's key."""
    ctl(options, "cert", "create-ca", "--certs-dir", path)
    ctl(options, "cert", "create-node", "localhost", "127.0.0.1", "--certs-dir", path)
    for user in users:
        ctl(options, "cert", "create-client", user, "--certs-dir", path)
    return path


def client_context(certs, user="root"):
    context = ssl.create_default_context(cafile=os.path.join(certs, "ca.crt"))
    if user is not None:
        context.load_cert_chain(os.path.join(certs, f"client.{user}.crt"),
                                os.path.join(certs, f"client.{user}.key"))
    return context


def tls_node(options, path, name, certs, **flags):
    return Node(options.bin, path, name=name, insecure=None, certs_dir=certs, **flags)


class Cluster:
    """Three nodes, each in a zone."""

    def __init__(self, options, path, certs):
        self.nodes = [tls_node(options, path, "one", certs, locality="region=a,zone=x")]
        for name, zone in (("two", "y"), ("three", "z")):
            self.nodes.append(tls_node(options, path, name, certs, locality=f"region=a,zone={zone}",
                                       join=f"127.0.0.1:{self.nodes[0].rpc}"))

    def __enter__(self):
        for n in self.nodes:
            n.start()
            n.wait_live()
        return self

    def __exit__(self, *_):
        for n in self.nodes:
            n.kill()


def sql(node, certs, text, user="root", context=None):
    with connect(node.sql, timeout=15, tls=context or client_context(certs, user)) as c:
        return c.query(text)


def three_nodes_talk_tls_only(options):
    with folder() as path:
        certs = make_certs(options, os.path.join(path, "certs"))
        with Cluster(options, path, certs) as cluster:
            one, two, three = cluster.nodes
            sql(one, certs, "create table t (id int primary key, v text)")
            sql(two, certs, "insert into t values (1, 'one')")
            expect(sql(three, certs, "select v from t") == [["one"]], "read on the third")

            def three_voters():
                text = http(f"127.0.0.1:{one.http}", "/api/v1/ranges")[1]
                return text.count('"type":"voter"') == 3
            wait_for("three voters", 30, three_voters)
            one.kill()
            expect(wait_for("a row after the first node's death", 20,
                            lambda: try_sql(two, certs, "select v from t")) == [["one"]], "row")
            for n in (two, three):
                expect(n.stop() == 0, "it stops in order")


def try_sql(node, certs, text):
    try:
        return sql(node, certs, text)
    except Exception:  # Not yet.
        return None


def turned_away(node, **options):
    """The server closes, or says why not; it does not hang and does not let in."""
    try:
        with connect(node.sql, timeout=5, **options) as c:
            c.query("select 1")
    except (ConnectionLost, ssl.SSLError, ConnectionError) as error:
        return str(error)
    expect(False, f"was let in with {options}")
    return None


def clients_need_the_right_certificate(options):
    with folder() as path:
        certs = make_certs(options, os.path.join(path, "certs"), ("root", "eve"))
        other = make_certs(options, os.path.join(path, "other"))
        with tls_node(options, path, "one", certs) as n:
            n.wait_live()
            expect(sql(n, certs, "select 1") == [["1"]], "the right one is let in")
            turned_away(n)  # No TLS at all.
            turned_away(n, tls=client_context(certs, None))
            turned_away(n, tls=client_context(certs, "eve"))  # Is not root.
            strangers = client_context(other)
            strangers.check_hostname = False
            strangers.verify_mode = ssl.CERT_NONE
            turned_away(n, tls=strangers)
            as_node = ssl.create_default_context(cafile=os.path.join(certs, "ca.crt"))
            as_node.load_cert_chain(os.path.join(certs, "node.crt"), os.path.join(certs, "node.key"))
            turned_away(n, tls=as_node)
            try:
                connect(n.sql, timeout=5, tls=client_context(other))
                expect(False, "a client trusted a server of another CA")
            except ssl.SSLCertVerificationError:
                pass
            expect(sql(n, certs, "select 1") == [["1"]], "it still works")
            expect(n.stop() == 0, "it stops in order")


def a_node_of_another_ca_does_not_get_in(options):
    with folder() as path:
        certs = make_certs(options, os.path.join(path, "certs"))
        other = make_certs(options, os.path.join(path, "other"))
        with tls_node(options, path, "one", certs) as one:
            one.wait_live()
            for name, directory in (("stranger", other), ("client", as_client(certs, path))):
                with tls_node(options, path, name, directory, join=f"127.0.0.1:{one.rpc}") as n:
                    wait_for(f"{name} says that it cannot join", 15,
                             lambda n=n: n.process.poll() is not None or "certificate" in n.said())
                    expect(n.process.poll() is not None or n.health() != 200, "it works")
            with Node(options.bin, path, name="plain", join=f"127.0.0.1:{one.rpc}") as n:
                wait_for("the one without TLS has tried", 15,
                         lambda: n.process.poll() is not None or "join_waits" in n.said())
                expect(n.health() != 200, "it works")
            nodes = http(f"127.0.0.1:{one.http}", "/api/v1/nodes")[1]
            expect(nodes.count('"id":') == 1, f"somebody got in: {nodes}")
            expect(one.stop() == 0, "it stops in order")


def as_client(certs, path):
    """A directory in which a client's certificate poses as a node's."""
    posing = os.path.join(path, "posing")
    os.mkdir(posing)
    shutil.copy(os.path.join(certs, "ca.crt"), posing)
    for ending in ("crt", "key"):
        shutil.copy(os.path.join(certs, f"client.root.{ending}"),
                    os.path.join(posing, f"node.{ending}"))
    return posing


def missing_and_broken_certificates_are_named(options):
    with folder() as path:
        certs = make_certs(options, os.path.join(path, "certs"))
        for victim in ("ca.crt", "node.crt", "node.key"):
            for how in ("missing", "broken"):
                broken = os.path.join(path, f"{how}-{victim}")
                shutil.copytree(certs, broken)
                os.remove(os.path.join(broken, victim))
                if how == "broken":
                    with open(os.path.join(broken, victim), "w", encoding="utf-8") as f:
                        f.write("-----BEGIN NONSENSE-----\n")
                n = tls_node(options, path, f"{how}-{victim}", broken).start()
                try:
                    expect(n.wait_end() > 0, "it starts")
                    expect(victim in n.said(), f"{victim} is not named: {n.said()[-300:]}")
                finally:
                    n.kill()


main([three_nodes_talk_tls_only, clients_need_the_right_certificate,
      a_node_of_another_ca_does_not_get_in, missing_and_broken_certificates_are_named])

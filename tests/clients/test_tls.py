"""Certificates: who comes in, who does not."""

import os
import shutil
import socket
import subprocess
import tempfile

import node


class Tls(node.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.certs = tempfile.mkdtemp(prefix="dsql-certs-")
        for command in (["create-ca"], ["create-node", "127.0.0.1", "localhost"],
                        ["create-client", "alice"]):
            subprocess.run([node.ARGS.dsqlctl, "cert", *command, "--certs-dir", cls.certs],
                           check=True, capture_output=True)
        cls.node = node.Node("--certs-dir", cls.certs)
        cls.port = cls.node.port

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.certs, ignore_errors=True)

    def psql(self, user, mode, cert=None):
        parts = [f"host=127.0.0.1 port={self.port} user={user} dbname=d sslmode={mode}",
                 f"sslrootcert={self.certs}/ca.crt"]
        if cert is not None:
            parts.append(f"sslcert={self.certs}/client.{cert}.crt "
                         f"sslkey={self.certs}/client.{cert}.key")
        env = dict(os.environ, PGSSLCERT="/nowhere", PSQLRC="/dev/null")
        r = subprocess.run(["psql", "-X", "-A", "-t", "-c", "select current_user", " ".join(parts)],
                           env=env, capture_output=True, text=True, timeout=60, check=False)
        return r.stdout.strip(), r.stderr

    def test_certificate_is_the_login(self):
        self.assertEqual(self.psql("alice", "verify-full", "alice"), ("alice", ""))

    def test_name_of_the_certificate_must_be_the_user(self):
        out, err = self.psql("bob", "verify-full", "alice")
        self.assertEqual(out, "")
        self.assertIn('certificate authentication failed for user "bob"', err)

    def test_no_certificate_no_login(self):
        out, _ = self.psql("alice", "require")
        self.assertEqual(out, "")

    def test_plain_text_is_refused(self):
        out, err = self.psql("alice", "disable")
        self.assertEqual(out, "")
        self.assertIn("TLS", err)

    def test_bytes_behind_the_request_are_refused(self):
        """CVE-2021-23214: they would be read as if they had come through TLS."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"Q\0\0\0\x0dselect 1\0")
            answer = s.recv(4096)
            self.assertNotEqual(answer[:1], b"S")
            self.assertIn(b"08P01", answer)


if __name__ == "__main__":
    node.main()

"""PostgreSQL, MariaDB and OpenLDAP with a few aliases in them, for maps that ask servers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import daemon, free_port, must_run, run, until
from waypost.net.certificates import CertificateFiles

PASSWORD = "s3cret"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
ROWS = "CREATE TABLE aliases (address varchar(200), target varchar(200));"
ALIASES = "INSERT INTO aliases VALUES ('info@example.com', 'ann@example.com'), ('info@example.com', 'bob@example.org');"

SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
database mdb
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
rootpw {password}
directory {directory}/data
access to * by users read by anonymous auth
"""
LDIF = """\
dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: uid=ann,dc=example,dc=com
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: Example
mail: info@example.com
description: ann@example.com
description: bob@example.org
"""


#: How OpenLDAP's programs end that reach no server.
_NOT_REACHED = 255


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it is, and its log."""

    url: str
    port: int
    log: Path


@contextlib.asynccontextmanager
async def postgres(directory: Path, tls: CertificateFiles | None = None) -> AsyncIterator[Server]:
    """PostgreSQL, as its own user, with passwords asked by SCRAM; with `tls` nobody may come in clear."""
    binaries = BINARIES[-1]
    data, log, secret, port = directory / "data", directory / "postgres.log", directory / "password", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    shutil.chown(directory, "postgres")
    as_postgres = ("runuser", "-u", "postgres", "--")
    await must_run(*as_postgres, binaries / "initdb", "-D", data, "-A", "scram-sha-256", f"--pwfile={secret}", "-N")
    command: tuple[str | Path, ...] = (binaries / "postgres", "-D", data, "-p", str(port), "-k", directory)
    command += ("-c", "fsync=off")
    if tls:
        shutil.chown(tls.key, "postgres")
        tls.key.chmod(0o600)
        command += ("-c", "ssl=on", "-c", f"ssl_cert_file={tls.certificate}", "-c", f"ssl_key_file={tls.key}")
        (data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
    log.touch(0o666)
    async with daemon(*as_postgres, *command, log=log):
        shell = (*as_postgres, "env", f"PGPASSWORD={PASSWORD}", "psql", "-h", "127.0.0.1", "-p", str(port))

        async def answers() -> bool:
            return (await run(*shell, "-c", "SELECT 1")).code == 0

        await until(answers, "PostgreSQL answers", log=log)
        await must_run(*shell, "-c", ROWS, "-c", ALIASES)
        yield Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", port, log)


@contextlib.asynccontextmanager
async def mariadb(directory: Path, tls: CertificateFiles | None = None) -> AsyncIterator[Server]:
    """MariaDB, with one user; with `tls` nobody may come in clear."""
    data, log, begin, port = directory / "data", directory / "mariadb.log", directory / "begin.sql", free_port()
    begin.write_text(
        f"CREATE DATABASE mail; CREATE USER waypost@'%' IDENTIFIED BY '{PASSWORD}'; "
        f"GRANT ALL ON mail.* TO waypost@'%'; "
        f"USE mail; {ROWS} {ALIASES}".replace("; ", ";\n")
    )
    own = {"TMPDIR": str(directory)}  # two at once would take each other's temporary tables
    await must_run("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db", env=own)
    command = ("/usr/sbin/mariadbd", "--no-defaults", f"--datadir={data}", f"--port={port}", "--user=root")
    more: tuple[str, ...] = ("--bind-address=127.0.0.1", f"--socket={directory}/socket", f"--init-file={begin}")
    if tls:
        more += (f"--ssl-cert={tls.certificate}", f"--ssl-key={tls.key}", "--require-secure-transport=ON")
    async with daemon(*command, *more, log=log):

        async def answers() -> bool:
            return "ready for connections" in log.read_text(errors="replace")

        await until(answers, "MariaDB answers", log=log)
        yield Server(f"mysql://waypost@127.0.0.1:{port}/mail", port, log)


@contextlib.asynccontextmanager
async def slapd(
    directory: Path, tls: CertificateFiles | None = None, *, implicit: bool = False
) -> AsyncIterator[Server]:
    """OpenLDAP, in clear, on loopback; with `tls` StartTLS is demanded, or TLS from the first octet is `implicit`."""
    config, log, port = directory / "slapd.conf", directory / "slapd.log", free_port()
    (directory / "data").mkdir()
    secured = f"TLSCertificateFile {tls.certificate}\nTLSCertificateKeyFile {tls.key}\n" if tls else ""
    secured += "security ssf=1\n" if tls else ""
    config.write_text(secured + SLAPD.format(directory=directory, password=PASSWORD))
    await must_run("/usr/sbin/slapadd", "-f", config, stdin=LDIF.encode())
    scheme = "ldaps" if implicit else "ldap"
    async with daemon("/usr/sbin/slapd", "-f", config, "-h", f"{scheme}://127.0.0.1:{port}", "-d", "0", log=log):

        async def answers() -> bool:
            where = f"{scheme}://127.0.0.1:{port}"
            said = await run("ldapwhoami", "-x", "-H", where, env={"LDAPTLS_REQCERT": "never"})
            return said.code != _NOT_REACHED

        await until(answers, "slapd answers", log=log)
        yield Server(f"{scheme}://127.0.0.1:{port}", port, log)

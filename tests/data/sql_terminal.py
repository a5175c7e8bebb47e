"""Types into `perennial sql` at a pseudo-terminal of 80 columns, and prints what is shown as JSON.
Arguments: the program, the URL of the server, a home directory, and the lines of a statement."""
import fcntl, json, os, pty, re, select, signal, struct, sys, termios, time

program, url, home, *statement = sys.argv[1:]


class Session:
    def __init__(self):
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.environ.update(HOME=home, TERM="xterm")
            os.execv(program, [program, "sql", f"--url={url}"])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.greeting = self.until("sql> ")[0]

    def until(self, wanted, then=""):
        """What is shown up to a text and another one after it, as lines without the colours and moves of the cursor."""
        shown, end = "", time.time() + 60
        while time.time() < end:
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(self.terminal, 65536).decode("utf8", "replace")
                except OSError:
                    break
            plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
            _, found, after = plain.partition(wanted)
            if found and then in after:
                # A line is drawn again after each key: the last time counts.
                drawn = [[part for part in line.split("\r") if part] for line in plain.split("\n")]
                return [parts[-1] if parts else "" for parts in drawn]
        return ["nothing more was shown", repr(shown)]

    def type(self, keys, wanted):
        os.write(self.terminal, keys.encode())
        return self.until(wanted)

    def run(self, statement, wanted):
        """What a statement shows. Keys that come before the next prompt are not read as keys: the terminal is another
        one while a statement runs."""
        os.write(self.terminal, f"{statement}\r".encode())
        return self.until(wanted, "sql> ")

    def ends(self, keys):
        """The exit code after these keys; none if the program goes on for a minute."""
        os.write(self.terminal, keys.encode())
        end = time.time() + 60
        while time.time() < end:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.process, signal.SIGKILL)
        return None


def answer(lines):
    """The lines of an answer, without prompts."""
    return [line for line in lines if line and not line.startswith("sql> ")]


found = {}
session = Session()
found["table"] = answer(session.run("SELECT a, value FROM x ORDER BY a;", "rows)"))
found["fits"] = max(map(len, answer(session.run("SELECT * FROM x;", "rows)")))) <= 80
found["metric"] = session.type("SELECT * FROM scrape_dur\t", "scrape_duration_seconds ")[-1].strip()
session.type("\x03", "sql> ")
found["label"] = session.type("SELECT value FROM x WHERE inst\t", "WHERE instance ")[-1].strip()
session.type("\x03", "sql> ")
session.type("\\f csv\r", "\n\rsql> ")
found["csv"] = answer(session.run("SELECT a, value FROM x ORDER BY a;", "2,5"))
session.type("\\f table\r", "\n\rsql> ")
# The first line is the time of the rows.
found["watch"] = answer(session.type("SELECT a FROM x WHERE a = '2' \\watch\r", "(1 row)"))[1:]
found["given up"] = "given up" in " ".join(session.type("\x03", "sql> "))
for line in statement[:-1]:
    session.type(line + "\r", "...> ")
found["statement"] = answer(session.run(statement[-1], "rows)"))[-1]
found["greeting"] = session.greeting
found["error"] = answer(session.run("SELECT rat(value) FROM x;", "or \"rate\"?"))
found["end"] = session.ends("\x04")
session = Session()
found["history"] = session.type("\x1b[A", "FROM x;")[-1].strip()
session.type("\x03", "sql> ")
found["quit"] = session.ends("\\q\r")
print(json.dumps(found))

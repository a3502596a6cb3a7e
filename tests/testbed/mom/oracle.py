"""Asks MOM's own evaluator: one case a line on standard input, one answer a line on standard output, both JSON.

A program of its own beside the product: it imports MOM, unpacked from Debian's package, from the folder in its only
argument. A case is {"files": [TEXT or {"hex": BYTES}, ...], "input": IN}, IN as `overcommit-agent policy eval --input`
takes it. The answer has the form that `policy eval --output json` prints, or is
{"error": {"stage": "load" or "run", "class": ..., "message": ...}}.

With `"isolate": true` an error in a guest's turn of `with` concerns that guest alone, by the rule of docs/mom.md, which MOM
does not have: its value is null, its controls and variables are those that it came with, and `errors` names it.

`{"bench": N, "files": ..., "input": ...}` evaluates N times and answers {"evaluations": N, "seconds": S}.
"""

import io
import json
import logging
import math
import resource
import signal
import sys
import time
import types

# Of a case, in seconds of CPU; the harder one ends the process where Python does not look at signals.
SOFT_SECONDS = 2
HARD_SECONDS = 10
ADDRESS_SPACE = 1 << 30
# A longer integer takes Python minutes to write in decimal.
LONGEST_INTEGER_BITS = 1 << 18

sys.path.insert(0, sys.argv[1])
answers = sys.stdout
# MOM prints parse errors.
sys.stdout = io.StringIO()
logging.disable(logging.CRITICAL)

from mom.Entity import Entity  # noqa: E402
from mom.Monitor import Monitor  # noqa: E402
from mom.Policy import Parser  # noqa: E402
from mom.Policy.Policy import Policy  # noqa: E402


class OutOfTime(Exception):
    pass


class TooLong(Exception):
    pass


class Config:
    """What a monitor reads of MOM's configuration, with MOM's defaults."""

    def get(self, section, key):
        return {"plot-subdir": ""}[key]

    def getint(self, section, key):
        return {"sample-history-length": 10}[key]


CONFIG = Config()


class Replay:
    """A collector that finds one sample after the other."""

    def __init__(self, declared, history):
        self.declared = declared
        self.samples = iter(history)

    def getFields(self):
        return set()

    def getOptionalFields(self):
        return self.declared

    def collect(self):
        return next(self.samples)


def entity(data):
    history = data.get("history", [])
    declared = set(data.get("fields", [])).union(*history)
    monitor = Monitor(CONFIG, data.get("name", "host"))
    monitor.config = CONFIG
    monitor.collectors = [Replay(declared, history)]
    monitor.fields = set()
    monitor.optional_fields = declared
    monitor.properties.update(data.get("properties", {}))
    monitor.variables.update(data.get("variables", {}))
    for _ in history:
        monitor.collect()
    monitor.ready = True
    made = monitor.interrogate()
    made.controls.update(data.get("controls", {}))
    made.told = data.get("name", "Host")
    return made


def text_of(file):
    # As MOM reads a file: whole, in text mode, so that CRLF becomes LF.
    raw = bytes.fromhex(file["hex"]) if isinstance(file, dict) else file.encode("utf-8")
    return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8").read()


def program(files):
    policy = Policy()
    # Their names sort as the files stand.
    policy.policy_strings = {"%06d" % i: text_of(file) for i, file in enumerate(files)}
    return policy._cat_policies()


def plain(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if value.bit_length() > LONGEST_INTEGER_BITS:
            raise TooLong("an integer of %d bits" % value.bit_length())
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Entity):
        return {"entity": value.told}
    if isinstance(value, types.MethodType) and isinstance(value.__self__, Entity):
        return {"entity": "%s.%s" % (value.__self__.told, value.__name__)}
    if isinstance(value, types.FunctionType):
        return {"entity": value.__name__}
    return {"object": type(value).__name__}


def plain_map(values):
    return {key: plain(value) for key, value in values.items()}


def told(made):
    return {"controls": plain_map(made.controls), "variables": plain_map(made.variables)}


def world(data):
    host = entity(data.get("host", {}))
    guests = {guest["name"]: entity(guest) for guest in data.get("guests", [])}
    return host, guests


class Isolating(Parser.Evaluator):
    """MOM's evaluator, but for a guest that fails in its turn."""

    def begin(self, guests):
        self.found = [(guest, dict(guest.controls), dict(guest.variables)) for guest in guests]
        self.failed = []

    def undo(self, failed):
        for guest, controls, variables in self.found:
            if guest is failed:
                guest.controls, guest.variables = dict(controls), dict(variables)

    def end(self):
        # What came after counts as little.
        for guest in self.failed:
            self.undo(guest)

    def turn(self, iterator, item, code):
        scopes = self.stack.stack
        self.stack.enter_scope()
        self.stack.set(iterator, item, True)
        try:
            return self.eval(code)
        except (OutOfTime, TooLong, MemoryError, RecursionError):
            raise
        except Exception:
            if not any(guest is item for guest, _, _ in self.found):
                raise
            self.failed.append(item)
            self.undo(item)
            return None
        finally:
            self.stack.stack = scopes

    def c_with(self, iterable, iterator, code):
        "symbol symbol code"
        return [self.turn(iterator, item, code) for item in self.stack.get(iterable)]


def judged(case):
    stage = "load"
    host, guests = world(case["input"])
    try:
        code = Parser.get_code(Parser.Evaluator(), program(case["files"]))
        stage = "run"
        evaluator = Isolating() if case.get("isolate") else Parser.Evaluator()
        evaluator.stack.set("Host", host, alloc=True)
        evaluator.stack.set("Guests", guests.values(), alloc=True)
        failed = []
        if case.get("isolate"):
            evaluator.begin(guests.values())
            failed = evaluator.failed
        values = [plain(evaluator.eval(value)) for value in code]
        if case.get("isolate"):
            evaluator.end()
        return {
            "values": values,
            "host": told(host),
            "guests": {name: told(guest) for name, guest in guests.items()},
            "errors": [{"guest": guest.told} for guest in failed],
        }
    except Exception as error:
        # Cut: the message of a KeyError may be a string of any length.
        return {"error": {"stage": stage, "class": type(error).__name__, "message": str(error)[:300]}}


def within_limits(case):
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + HARD_SECONDS, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_VIRTUAL, SOFT_SECONDS)
    try:
        return judged(case)
    except OutOfTime:
        return {"error": {"stage": "run", "class": "OutOfTime", "message": "%d s of CPU" % SOFT_SECONDS}}
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def benched(case):
    policy = Policy()
    if not policy.set_policy(None, program(case["files"])):
        return {"error": {"stage": "load", "class": "PolicyError", "message": "not loaded"}}
    host, guests = world(case["input"])
    begun = time.monotonic()
    for _ in range(case["bench"]):
        if not policy.evaluate(host, guests.values()):
            return {"error": {"stage": "run", "class": "PolicyError", "message": "not evaluated"}}
    return {"evaluations": case["bench"], "seconds": time.monotonic() - begun}


def remember_signatures():
    """MOM parses the signature of a builtin at each call: the same tree each time, most of the time of a case."""
    original, known = Parser.GenericEvaluator.parse_doc, {}

    def parse_doc(self, doc):
        if doc not in known:
            known[doc] = original(self, doc)
        return list(known[doc])

    Parser.GenericEvaluator.parse_doc = parse_doc
    return lambda: setattr(Parser.GenericEvaluator, "parse_doc", original)


def out_of_time(signal_number, frame):
    raise OutOfTime()


def main():
    signal.signal(signal.SIGVTALRM, out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    as_shipped = remember_signatures()
    # Where MOM reads numbers, Python's limit holds (4300 digits); where answers are written, none.
    digits = sys.get_int_max_str_digits()
    for line in sys.stdin:
        case = json.loads(line)
        if "bench" in case:
            as_shipped()
            answer = benched(case)
            remember_signatures()
        else:
            answer = within_limits(case)
        sys.stdout.seek(0)
        sys.stdout.truncate()
        sys.set_int_max_str_digits(0)
        answers.write(json.dumps(answer) + "\n")
        sys.set_int_max_str_digits(digits)
        answers.flush()


main()

import logging
import re
import unittest

from penstock.message import Renderer, header_field, param_value, sd_name, severity_in, severity_of


def render(text="text", name="a.b", level=logging.INFO, app_name="app", extra=None, created=None):
    record = logging.LogRecord(name, level, "", 1, text, (), None)
    record.__dict__.update(extra or {})
    if created is not None:
        record.created = created
    renderer = Renderer(hostname="host", app_name=app_name, facility=1, sd_id="python@32473")
    return renderer.render(record, text)[1].decode()


class MessageTest(unittest.TestCase):
    def test_a_level_is_the_nearest_lower_severity(self):
        table = {0: 7, 5: 7, 10: 7, 15: 7, 20: 6, 25: 6, 30: 4, 39: 4, 40: 3, 45: 3, 50: 2, 99: 2}
        self.assertEqual(table, {level: severity_of(level) for level in table})
        self.assertTrue(render(level=25).startswith("<14>1 "))
        self.assertEqual(2, severity_in(render(level=50).encode()))

    def test_the_whole_header(self):
        pattern = r'<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000[+-]\d\d:\d\d host app \d+ - \[python@32473 logger="a\.b"\] text'
        self.assertRegex(render(created=1_700_000_000.0), f"^{pattern}$")

    def test_microseconds_are_rounded_and_never_seven_digits(self):
        for created, micros in ((1_700_000_000.25, "250000"), (1_700_000_000.123456, "123456"), (1_700_000_000.9999997, "999999")):
            self.assertEqual(micros, re.search(r"\.(\d+)[+-]", render(created=created))[1])

    def test_a_name_becomes_an_app_name_of_48_printable_octets(self):
        self.assertIn(" host a_b_ ", render(name="a bé", app_name=None))
        self.assertIn(" host " + 48 * "x" + " ", render(app_name=60 * "x"))
        self.assertEqual("-", header_field("", 48))

    def test_values_are_escaped_as_rfc_5424_says(self):
        self.assertEqual('\\"\\\\\\]', param_value('"\\]'))
        self.assertIn(' path="C:\\\\x \\"y\\" [z\\]"', render(extra={"path": 'C:\\x "y" [z]'}))

    def test_names_are_sanitised_and_not_repeated(self):
        self.assertEqual("a____b", sd_name('a= ]"b'))
        self.assertEqual(32, len(sd_name(40 * "n")))
        message = render(extra={"a b": 1, "a=b": 2, "logger": "x"})
        self.assertIn('[python@32473 logger="a.b" a_b="1"] ', message)

    def test_extras_that_are_no_text_are_json(self):
        circular = []
        circular.append(circular)
        extra = {"n": 1, "none": None, "list": [1, "é"], "object": {1}, "loop": circular, "yes": True}
        message = render(extra=extra)
        for part in ('n="1"', 'none="null"', 'list="[1, \\"é\\"\\]"', 'object="\\"{1}\\""', 'loop="<list>"', 'yes="true"'):
            self.assertIn(part, message)

    def test_what_formatters_of_other_handlers_leave_is_no_extra(self):
        self.assertTrue(render(extra={"message": "m", "asctime": "t"}).endswith('logger="a.b"] text'))

    def test_extras_are_found_whatever_a_filter_has_taken_away(self):
        record = logging.LogRecord("n", 20, "", 1, "m", (), None)
        record.first, record.message, record.second = 1, "m", 2
        del record.processName
        renderer = Renderer(hostname="h", app_name=None, facility=1, sd_id="x")
        for name in ("taskName", "thread", "threadName"):
            record.__dict__.pop(name, None)
            for record.process in (1, None):
                self.assertIn(b'logger="n" first="1" second="2"]', renderer.render(record, "m")[1])
            del record.process

    def test_trace_ids_of_a_record_class(self):
        class Traced(logging.LogRecord):
            trace_id = "4bf9"
            span_id = "00f0"

        logging.setLogRecordFactory(Traced)
        self.addCleanup(logging.setLogRecordFactory, logging.LogRecord)
        record = logging.getLogger("t").makeRecord("t", 20, "", 1, "m", (), None)
        message = Renderer(hostname="h", app_name=None, facility=1, sd_id="x").render(record, "m")[1]
        self.assertIn(b'trace_id="4bf9" span_id="00f0"', message)

    def test_lone_surrogates_line_feeds_and_nul_are_data(self):
        self.assertTrue(render("a\ud800b\n\0c").endswith("] a\\ud800b\n\0c"))
        self.assertIn('k="\\udcff"', render(extra={"k": "\udcff"}))

import unittest

from penstock.waiting import NEVER, Waiting


def waiting(most=4, most_bytes=1 << 20):
    return Waiting(most=most, most_bytes=most_bytes, urgent_severity=3)


def message(severity, text=b""):
    return b"<%d>1 %b" % (8 + severity, text)


class WaitingTest(unittest.TestCase):
    def test_order_is_kept_over_severities(self):
        queue = waiting(100)
        sent = [message(severity, b"%d" % n) for n, severity in enumerate([6, 3, 7, 6, 2, 6, 4])]
        for severity, one in zip([6, 3, 7, 6, 2, 6, 4], sent):
            queue.put(severity, one)
        self.assertEqual(sent[:3], list(queue.take(3).values()))
        self.assertEqual(sent[3:], list(queue.take(NEVER).values()))
        self.assertEqual((0, 0), (len(queue), queue.octets()))

    def test_full_the_newest_of_the_lowest_goes_and_equals_are_refused(self):
        queue = waiting(4)
        for severity, text in ((6, b"a"), (7, b"b"), (7, b"c"), (6, b"d"), (3, b"e"), (7, b"f"), (4, b"g"), (6, b"h"), (2, b"i")):
            queue.put(severity, message(severity, text))
        self.assertEqual(b"aegi", b"".join(m[-1:] for m in queue.take(NEVER).values()))
        self.assertEqual({7: 3, 6: 2}, dict(queue.dropped))

    def test_octets_are_bounded_too(self):
        queue = waiting(100, 100)
        for _ in range(3):
            queue.put(6, message(6, 25 * b"x"))
        queue.put(3, message(3, 60 * b"y"))
        queue.put(3, message(3, 200 * b"z"))
        self.assertEqual([66], [len(m) for m in queue.take(NEVER).values() if b"y" in m])
        self.assertEqual({6: 2, 3: 1}, dict(queue.dropped))

    def test_a_batch_is_bounded_in_octets_but_takes_one_at_least(self):
        queue = waiting(10)
        for size in (50, 60, 1000):
            queue.put(6, message(6, size * b"x"))
        self.assertEqual([1, 1, 1], [len(queue.take(10, 100)) for _ in range(3)])

    def test_what_is_put_back_is_the_oldest(self):
        queue = waiting(10)
        for n, severity in enumerate((6, 3, 6)):
            queue.put(severity, message(severity, b"%d" % n))
        queue.put_back(queue.take(2))
        self.assertEqual(b"012", b"".join(m[-1:] for m in queue.take(9).values()))

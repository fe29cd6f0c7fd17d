import os
import tempfile
import unittest

from penstock.spool import Spool


class SpoolTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def spool(self, most_bytes=1 << 20):
        spool = Spool(self.folder, most_bytes)
        self.addCleanup(spool.close)
        spool.adopt()
        return spool

    def test_what_was_delivered_is_gone_and_the_rest_comes_again_in_order(self):
        spool = self.spool(3200)
        for n in range(50):
            spool.append([b"<14>1 %d" % n, b"<14>1 %d'" % n])
        self.assertGreater(len(os.listdir(self.folder)), 3)
        first = spool.read(7)
        spool.delivered()
        spool.read(3)
        spool.close()
        again = self.spool()
        rest = []
        while again:
            rest += again.read(4)
            again.delivered()
        self.assertEqual([b"<14>1 %d%s" % (n, mark) for n in range(50) for mark in (b"", b"'")], first + rest)
        self.assertEqual([], os.listdir(self.folder))

    def test_a_tail_cut_anywhere_costs_what_was_cut(self):
        spool = self.spool()
        spool.append([b"<14>1 one", b"<14>1 two"])
        spool.close()
        (name,) = os.listdir(self.folder)
        path = os.path.join(self.folder, name)
        with open(path, "rb") as file:
            whole = file.read()
        for length in range(len(whole) + 1):
            with open(path, "wb") as file:
                file.write(whole[:length])
            cut = Spool(self.folder, 1 << 20)
            cut.adopt()
            found = cut.read(9)
            self.assertEqual([b"<14>1 one", b"<14>1 two"][: (length >= 33) + (length == len(whole))], found)
            cut.close()

    def test_a_changed_octet_is_not_taken_for_a_record(self):
        spool = self.spool()
        spool.append([b"<14>1 one", b"<14>1 two"])
        (name,) = os.listdir(self.folder)
        with open(os.path.join(self.folder, name), "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"0")
        self.assertEqual([b"<14>1 one"], spool.read(9))

    def test_a_segment_of_a_living_process_is_left_alone(self):
        ours, other = self.spool(), self.spool()
        ours.append([b"<14>1 ours"])
        other.adopt()
        self.assertEqual([], other.read(9))
        ours.close()
        other.adopt()
        self.assertEqual([b"<14>1 ours"], other.read(9))

    def test_the_most_severe_are_kept_where_room_is_short(self):
        spool = self.spool(60)
        lost = spool.append_severest([b"<15>1 a", b"<11>1 b", b"<14>1 c", b"<10>1 d", b"<11>1 e"])
        self.assertEqual([b"<11>1 b", b"<14>1 c", b"<10>1 d", b"<11>1 e"], spool.read(9))
        self.assertEqual([b"<15>1 a"], lost)

    def test_a_short_write_leaves_no_half_record(self):
        spool = self.spool()
        spool.append([b"<14>1 one"])
        whole, os.pwrite = os.pwrite, lambda fd, octets, at: whole(fd, octets[:5], at)
        try:
            with self.assertRaises(OSError):
                spool.append([b"<14>1 two"])
        finally:
            os.pwrite = whole
        spool.append([b"<14>1 three"])
        self.assertEqual([b"<14>1 one", b"<14>1 three"], spool.read(9))

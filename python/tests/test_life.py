"""Queues that run full, disks, forks, kills and ends."""

import contextlib
import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import penstock

from .servers import PATIENCE, HttpServer, RelpServer, StreamServer, text_of
from .test_delivery import DeliveryCase


class OverflowTest(DeliveryCase):
    def test_the_severe_are_kept_and_the_server_learns_what_is_missing(self):
        first = StreamServer()
        first.stop()
        logger, handler = self.logger(f"relp://localhost:{first.port}", queue_size=10, batch_size=5, batch_seconds=3600)
        for _ in range(8):
            logger.debug("debug")
        for n in range(5):
            logger.critical("critical %d", n)
        for _ in range(20):
            logger.info("info")
        dropped = handler.dropped
        server = self.serve(RelpServer(port=first.port))
        handler.flush(PATIENCE)
        server.received.wait(lambda messages: any(b"records dropped" in message for message in messages))
        texts = self.texts(server)
        self.assertEqual([f"critical {n}" for n in range(5)], [text for text in texts if text.startswith("critical")])
        (notice,) = [message for message in server.received.messages if b"records dropped" in message]
        self.assertTrue(notice.startswith(b"<12>1 "))
        for level, count in dropped.items():
            self.assertIn(f'dropped_{level.lower()}="{count}"'.encode(), notice)
        self.assertEqual(33, sum(dropped.values()) + len(texts) - 1)
        self.assertNotIn("CRITICAL", dropped)


class SpoolTest(DeliveryCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.join(folder.name, "spool")

    def away(self):
        server = StreamServer()
        server.stop()
        return server.port

    def test_what_waits_at_close_is_sent_by_the_next_one_in_order(self):
        port = self.away()
        for begin in (0, 50):
            logger, handler = self.logger(f"relp://localhost:{port}", spool=self.folder, close_timeout=0.0)
            for n in range(begin, begin + 50):
                logger.info("%d", n)
            handler.close()
            self.assertEqual({}, handler.dropped)
        server = self.serve(RelpServer(port=port))
        logger, handler = self.logger(f"relp://localhost:{port}", spool=self.folder)
        logger.info("100")
        handler.close()
        self.assertEqual([str(n) for n in range(101)], self.texts(server))
        self.assertEqual([], os.listdir(self.folder))

    def test_more_than_the_queue_holds_goes_through_the_disk_in_order(self):
        port = self.away()
        logger, handler = self.logger(f"relp://localhost:{port}", spool=self.folder, queue_size=200, batch_size=20)
        for n in range(1000):
            logger.info("%d", n)
            if n % 90 == 0:
                self.wait_until(lambda: len(handler._waiting) < 100)
        self.assertTrue(os.listdir(self.folder))
        server = self.serve(RelpServer(port=port))
        self.assertTrue(handler.flush(PATIENCE))
        self.assertEqual([str(n) for n in range(1000)], self.texts(server))
        self.assertEqual(({}, []), (handler.dropped, os.listdir(self.folder)))

    def test_a_delivery_that_hangs_does_not_let_the_queue_run_full(self):
        silent = self.serve(StreamServer())
        logger, handler = self.logger(f"relp://localhost:{silent.port}", spool=self.folder, queue_size=100, close_timeout=0.0)
        for n in range(300):
            logger.info("%d", n)
            self.wait_until(lambda: len(handler._waiting) < 90)
        handler.close()
        self.assertEqual({}, handler.dropped)
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}", spool=self.folder)
        logger.info("300")
        handler.close()
        self.assertEqual({str(n) for n in range(301)}, set(self.texts(server)))
        self.assertEqual(301, len(server.received.messages))

    def test_a_full_spool_keeps_the_severe(self):
        logger, handler = self.logger(f"tcp://localhost:{self.away()}", spool=self.folder, spool_bytes=600, close_timeout=0.0, batch_seconds=3600)
        for _ in range(20):
            logger.debug("d")
        logger.critical("c")
        handler.close()
        self.assertNotIn("CRITICAL", handler.dropped)
        self.assertGreater(handler.dropped["DEBUG"], 10)

    def test_a_spool_outlives_sigkill(self):
        port = self.away()
        code = f"""
import logging, penstock, os, signal, time
handler = penstock.Handler("relp://localhost:{port}", spool={self.folder!r}, queue_size=100, batch_seconds=0.05, retry_first=0.01, retry_most=0.01)
log = logging.getLogger(); log.addHandler(handler); log.setLevel(1)
for n in range(1000):
    log.info("%d", n)
    while len(handler._waiting) > 80: time.sleep(0.001)
while len(handler._waiting): time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with child.stdout:
            self.assertEqual(b"ready\n", child.stdout.readline())
        child.kill()
        child.wait()
        (name, *_) = os.listdir(self.folder)
        with open(os.path.join(self.folder, name), "ab") as file:
            file.write(b"\x40\0\0\0torn")
        server = self.serve(RelpServer(port=port))
        logger, handler = self.logger(f"relp://localhost:{port}", spool=self.folder)
        logger.info("1000")
        handler.close()
        self.assertEqual([str(n) for n in range(1001)], self.texts(server))

    def wait_until(self, condition):
        for _ in range(2000):
            if condition():
                return
            threading.Event().wait(0.01)
        self.fail("never")


@unittest.skipUnless(hasattr(os, "fork"), "no fork(2)")
class ForkTest(DeliveryCase):
    def fork(self, child):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = child()
            finally:
                os._exit(status)
        self.assertEqual(0, os.waitpid(pid, 0)[1])

    def test_parent_and_child_send_what_is_theirs(self):
        for scheme, server in (("tcp", StreamServer()), ("relp", RelpServer()), ("http", HttpServer())):
            with self.subTest(scheme):
                self.serve(server)
                logger, handler = self.logger(f"{scheme}://localhost:{server.port}", batch_seconds=3600)
                logger.error("before")
                server.received.wait_for(1)
                logger.info("waits in the parent")

                def child():
                    logger.info("child")
                    return 0 if handler.flush(PATIENCE) else 1

                self.fork(child)
                logger.info("after")
                handler.close()
                server.received.wait_for(4)
                self.assertEqual(["after", "before", "child", "waits in the parent"], sorted(self.texts(server)))

    def test_a_child_that_lives_on_does_not_hold_the_parents_connection(self):
        server = self.serve(StreamServer())
        logger, handler = self.logger(f"tcp://localhost:{server.port}")
        logger.error("x")
        server.received.wait_for(1)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        try:
            # Without the words at the end of a session: only the last descriptor's close tells the server.
            handler._worker.transport.forget()
            self.assertTrue(server.one_ended.wait(PATIENCE))
        finally:
            os.close(write)
            os.waitpid(pid, 0)

    def test_a_spool_of_the_parent_stays_the_parents(self):
        with tempfile.TemporaryDirectory() as folder:
            first = StreamServer()
            first.stop()
            logger, handler = self.logger(f"tcp://localhost:{first.port}", spool=folder, close_timeout=0.0)
            logger.error("parent")
            self.assertFalse(handler.flush(0.2))
            self.fork(lambda: logger.error("child") or handler.close() or 0)
            self.assertEqual({}, handler.dropped)
            handler.close()
            server = self.serve(StreamServer(port=first.port))
            logger, handler = self.logger(f"tcp://localhost:{first.port}", spool=folder)
            logger.error("next")
            handler.close()
            server.received.wait_for(3)
            self.assertEqual(["child", "next", "parent"], sorted(self.texts(server)))

    def test_a_child_of_multiprocessing_delivers_before_it_ends(self):
        server = self.serve(RelpServer())
        code = f"""
import logging, multiprocessing, penstock
def work(n):
    logging.info("%d", n)
if __name__ == "__main__":
    logging.basicConfig(handlers=[penstock.Handler("relp://localhost:{server.port}", batch_seconds=3600)], level=1, format="%(message)s")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children: child.start()
    for child in children: child.join()
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
        self.assertEqual(["0", "1", "2"], sorted(text_of(m) for m in server.received.wait_for(3)))


class EndTest(DeliveryCase):
    def test_the_end_of_a_program_delivers_without_a_word(self):
        server = self.serve(RelpServer())
        code = f"""
import logging, penstock, atexit
logging.basicConfig(handlers=[penstock.Handler("relp://localhost:{server.port}", batch_seconds=3600)], level=1, format="%(message)s")
for n in range(1000): logging.info("%d", n)
"""
        run = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, stderr=subprocess.PIPE, check=True)
        self.assertEqual(b"", run.stderr)
        self.assertEqual([str(n) for n in range(1000)], [text_of(m) for m in server.received.wait_for(1000)])

    def test_a_first_record_at_the_very_end(self):
        server = self.serve(RelpServer())
        code = f"""
import atexit, logging, penstock
logging.basicConfig(handlers=[penstock.Handler("relp://localhost:{server.port}")], level=1, format="%(message)s")
atexit.register(logging.info, "bye")
"""
        subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=True)
        self.assertEqual(["bye"], [text_of(m) for m in server.received.wait_for(1)])

    def test_a_close_after_a_flush_in_vain_does_not_wait_again(self):
        first = StreamServer()
        first.stop()
        logger, handler = self.logger(f"tcp://localhost:{first.port}", close_timeout=PATIENCE)
        logger.error("lost")
        self.assertFalse(handler.flush(0.01))
        began = time.monotonic()
        handler.close()
        self.assertLess(time.monotonic() - began, PATIENCE / 2)

    def test_a_server_that_is_away_costs_two_lines(self):
        first = StreamServer()
        first.stop()
        code = f"""
import logging, penstock
logging.basicConfig(handlers=[penstock.Handler("tcp://localhost:{first.port}", close_timeout=0.5)], level=1, format="%(message)s")
logging.error("lost")
"""
        run = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, stderr=subprocess.PIPE, check=True)
        lines = run.stderr.decode().splitlines()
        self.assertEqual(2, len(lines), lines)
        self.assertIn("refused", lines[0])
        self.assertEqual(f"penstock: tcp://localhost:{first.port}: 1 messages could not be delivered before the end", lines[1])


class ApplicationTest(DeliveryCase):
    def test_dict_config(self):
        server = self.serve(RelpServer())
        for how in ("()", "class"):
            logging.config.dictConfig(
                {
                    "version": 1,
                    "disable_existing_loggers": False,
                    "formatters": {"short": {"format": "%(levelname)s: %(message)s"}},
                    "handlers": {
                        "log": {
                            how: "penstock.Handler",
                            "url": f"relp://localhost:{server.port}",
                            "app_name": how,
                            "facility": "local3",
                            "level": "INFO",
                            "formatter": "short",
                            "flush_level": "WARNING",
                        }
                    },
                    "loggers": {"configured": {"handlers": ["log"], "level": "DEBUG", "propagate": False}},
                }
            )
            logger = logging.getLogger("configured")
            self.addCleanup(logger.handlers[0].close)
            logger.debug("no")
            logger.warning("yes")
        messages = server.received.wait_for(2)
        self.assertTrue(messages[0].startswith(b"<156>1 ") and messages[0].endswith(b"] WARNING: yes"), messages)

    def test_what_is_wrong_is_said_at_once(self):
        for options in (
            {"url": "udp://host"},
            {"url": "tls://"},
            {"url": "tcp://host:99999"},
            {"facility": "nonsense"},
            {"facility": 24},
            {"flush_level": "nonsense"},
            {"sd_id": "a b"},
        ):
            with self.subTest(options), self.assertRaises(ValueError):
                penstock.Handler(**{"url": "tcp://host", **options})
        with self.assertRaises(OSError):
            penstock.Handler("tls://host", ca="/nonexistent")

    def test_tracebacks_and_stacks(self):
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}")
        try:
            raise KeyError("k")
        except KeyError:
            logger.exception("boom", stack_info=True)
        text = text_of(server.received.wait_for(1)[0])
        for part in ("boom\nTraceback (most", "KeyError: 'k'", "Stack (most recent call last)"):
            self.assertIn(part, text)

    def test_problems_are_told_once_and_raise_nothing(self):
        logging.raiseExceptions = True
        logger, handler = self.logger("tcp://localhost:1", close_timeout=0.0, retry_first=0.001, retry_most=0.001)
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            for _ in range(20):
                logger.error("%d", "no number")
                logger.error("fine")
                handler.flush(0.01)
            handler.close()
        self.assertEqual(1, stderr.getvalue().count("Traceback"))

    def test_a_refusal_is_told_once(self):
        logging.raiseExceptions = True
        server = self.serve(HttpServer(answers=lambda messages: (401, {})))
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            logger, handler = self.logger(f"http://me:s3cret@localhost:{server.port}", close_timeout=0.0)
            logger.error("x")
            while len(server.requests) < 4:
                handler.flush(0.01)
            server.answers = lambda messages: (200, {})
            self.assertTrue(handler.flush(PATIENCE))
        self.assertEqual(f"penstock: http://localhost:{server.port}: HTTP status 401\n", stderr.getvalue())

    def test_a_flush_ends_while_others_go_on_logging(self):
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}", batch_size=10)
        stop = threading.Event()

        def work():
            while not stop.wait(0.0001):
                logger.info("x")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            logger.info("mine")
            self.assertTrue(handler.flush(PATIENCE))
            self.assertIn("mine", self.texts(server))
        finally:
            stop.set()
            thread.join()

    def test_its_own_records_are_not_taken(self):
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}")
        own = logging.getLogger("penstock")
        own.addHandler(handler)
        self.addCleanup(own.removeHandler, handler)
        own.error("loop")
        logger.error("no loop")
        handler.close()
        self.assertEqual(["no loop"], self.texts(server))

    @unittest.skipUnless(hasattr(signal, "setitimer"), "no timers")
    def test_a_signal_handler_may_log_while_a_record_is_logged(self):
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}", queue_size=1 << 20)
        interruptions = []

        def interrupt(number, frame):
            interruptions.append(number)
            logger.warning("interrupted")

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, interrupt))
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for n in range(5000):
                logger.info("x")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertTrue(handler.flush(PATIENCE))
        self.assertEqual(5000 + len(interruptions), len(server.received.messages))

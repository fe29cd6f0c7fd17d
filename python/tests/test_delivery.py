"""Handlers against servers that take, break off and refuse."""

import base64
import itertools
import logging
import threading
import unittest

import penstock

from .servers import PATIENCE, Certificate, HttpServer, RelpServer, StreamServer, text_of

_names = itertools.count()


class DeliveryCase(unittest.TestCase):
    def setUp(self):
        logging.raiseExceptions, before = False, logging.raiseExceptions
        self.addCleanup(setattr, logging, "raiseExceptions", before)

    def serve(self, server):
        self.addCleanup(server.stop)
        return server

    def logger(self, url, **options):
        """A logger whose only handler goes there, with pauses for a test."""
        for name, value in {"batch_seconds": 0.02, "retry_first": 0.01, "retry_most": 0.05, "close_timeout": PATIENCE}.items():
            options.setdefault(name, value)
        if "//localhost" in url and "ca" not in options and url.startswith(("tls", "relps", "https")):
            options["ca"] = Certificate.paths()[0]
        handler = penstock.Handler(url, **options)
        self.addCleanup(handler.close)
        logger = logging.getLogger(f"test-{next(_names)}")
        logger.propagate = False
        logger.setLevel(1)
        logger.addHandler(handler)
        return logger, handler

    def texts(self, server):
        return [text_of(message) for message in server.received.messages]


class EveryTransportTest(DeliveryCase):
    def servers(self):
        yield "tcp", StreamServer()
        yield "tls", StreamServer(Certificate.server_context())
        yield "relp", RelpServer()
        yield "relps", RelpServer(Certificate.server_context())
        yield "http", HttpServer()
        yield "https", HttpServer(Certificate.server_context())

    def each(self, **options):
        for scheme, server in self.servers():
            self.serve(server)
            with self.subTest(scheme):
                logger, handler = self.logger(f"{scheme}://localhost:{server.port}", **options)
                yield server, logger, handler

    def test_order_is_kept_nothing_is_lost_and_nothing_comes_twice(self):
        for server, logger, handler in self.each():
            for n in range(3000):
                logger.log(10 * (n % 5 + 1), "%d", n)
            self.assertTrue(handler.flush(PATIENCE))
            server.received.wait_for(3000)
            handler.close()
            self.assertEqual([str(n) for n in range(3000)], self.texts(server))
            self.assertEqual({}, handler.dropped)

    def test_octets_of_all_kinds_and_a_mebibyte(self):
        odd = ["", "a\nb\r\n", "\0", "\ud800", "é€😀", "12 <14>1 x", 1024 * 1024 * "x", "last"]
        for server, logger, handler in self.each():
            for text in odd:
                logger.info("%s", text)
            handler.close()
            server.received.wait_for(len(odd))
            self.assertEqual([text.replace("\ud800", "\\ud800") for text in odd], self.texts(server))

    def test_threads_lose_nothing(self):
        for server, logger, handler in self.each(batch_size=50):
            threads = [threading.Thread(target=lambda: [logger.info("x") for _ in range(500)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            handler.close()
            self.assertEqual(2000, len(server.received.wait_for(2000)))

    def test_an_error_flushes_and_a_batch_waits(self):
        for server, logger, handler in self.each(batch_seconds=3600):
            logger.info("waits")
            logger.error("at once")
            server.received.wait_for(2)
            for _ in range(500):
                logger.info("a full batch")
            server.received.wait_for(502)

    def test_what_waits_goes_when_its_time_has_come(self):
        for server, logger, handler in self.each(batch_seconds=0.05):
            logger.info("one")
            server.received.wait_for(1)

    def test_a_server_that_comes_later_gets_all(self):
        for scheme, server in self.servers():
            with self.subTest(scheme):
                server.stop()
                logger, handler = self.logger(f"{scheme}://localhost:{server.port}")
                logger.error("first")
                self.assertFalse(handler.flush(0.1))
                context = Certificate.server_context() if scheme in ("tls", "relps", "https") else None
                again = self.serve(type(server)(context, port=server.port))
                logger.error("second")
                again.received.wait_for(2)
                self.assertEqual(["first", "second"], self.texts(again))

    def test_close_ends_though_the_server_answers_nothing(self):
        silent = self.serve(StreamServer())
        for scheme in ("tls", "relp", "http"):
            with self.subTest(scheme):
                logger, handler = self.logger(f"{scheme}://localhost:{silent.port}", close_timeout=0.1)
                logger.error("lost")
                handler.close()
                self.assertEqual({"ERROR": 1}, handler.dropped)
                logger.error("after the end")
                self.assertEqual({"ERROR": 2}, handler.dropped)


class StreamTest(DeliveryCase):
    def test_tls_is_closed_with_close_notify(self):
        server = self.serve(StreamServer(Certificate.server_context()))
        logger, handler = self.logger(f"tls://localhost:{server.port}")
        logger.info("x")
        handler.close()
        self.assertTrue(server.one_ended.wait(PATIENCE))

    def test_a_restart_between_batches_is_noticed_before_anything_is_written(self):
        for context in (None, Certificate.server_context()):
            server = StreamServer(context)
            scheme = "tls" if context else "tcp"
            logger, handler = self.logger(f"{scheme}://localhost:{server.port}")
            for n in range(5):
                logger.error("%d", n)
                server.received.wait_for(n + 1)
                server.stop()
                server = StreamServer(context, port=server.port, received=server.received)
            handler.close()
            server.stop()
            self.assertEqual(["0", "1", "2", "3", "4"], self.texts(server))


class RelpTest(DeliveryCase):
    def test_what_was_not_acknowledged_is_sent_again(self):
        server = self.serve(RelpServer(breaks_after=200))
        logger, handler = self.logger(f"relp://localhost:{server.port}")
        for n in range(1000):
            logger.info("%d", n)
        handler.close()
        self.assertEqual(1, server.unacknowledged)
        self.assertEqual([str(n) for n in range(1000)], self.texts(server))

    def test_a_refused_message_is_counted_and_the_others_go_on(self):
        server = self.serve(RelpServer(refuses=lambda data: data.endswith(b" bad")))
        logger, handler = self.logger(f"relp://localhost:{server.port}")
        for text in ("good", "bad", "better"):
            logger.info(text)
        self.assertTrue(handler.flush(PATIENCE))
        server.received.wait_for(3)
        self.assertEqual({"INFO": 1}, handler.dropped)
        self.assertEqual(["good", "better", "records dropped: 1 INFO"], self.texts(server))

    def test_the_session_is_closed(self):
        server = self.serve(RelpServer())
        logger, handler = self.logger(f"relp://localhost:{server.port}")
        logger.info("x")
        handler.close()
        self.assertTrue(server.closed.wait(PATIENCE))


class HttpTest(DeliveryCase):
    def run_with(self, *answers, texts=("a", "b", "c"), path="", **options):
        """Requests until all was answered by 200, the given answers first."""
        rest = iter(answers)
        server = self.serve(HttpServer(answers=lambda messages: next(rest, (200, {}))))
        credentials = options.pop("credentials", "")
        logger, handler = self.logger(f"http://{credentials}localhost:{server.port}{path}", batch_seconds=3600, **options)
        for text in texts:
            logger.info(text)
        self.assertTrue(handler.flush(PATIENCE))
        return server, handler

    def test_a_retry_has_the_same_key_and_body(self):
        for status in (401, 403, 429, 500, 503, 302):
            with self.subTest(status):
                server, handler = self.run_with((status, {}), (status, {}))
                keys = [headers["Idempotency-Key"] for _, headers, _, _ in server.requests]
                self.assertEqual((3, 1), (len(keys), len(set(keys))))
                self.assertEqual(1, len({tuple(messages) for _, _, messages, _ in server.requests}))
                self.assertEqual(["a", "b", "c"], self.texts(server))
                self.assertEqual(1, len({peer for _, _, _, peer in server.requests}), "one connection")
                self.assertEqual({}, handler.dropped)

    def test_retry_after_is_honoured(self):
        server, handler = self.run_with((429, {"Retry-After": "0"}), (503, {"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}), retry_first=600, retry_most=600)
        self.assertEqual(3, len(server.requests))

    def test_retry_after_is_waited_for(self):
        server = self.serve(HttpServer(answers=lambda messages: (503, {"Retry-After": "600"})))
        logger, handler = self.logger(f"http://localhost:{server.port}", close_timeout=0.0)
        logger.error("x")
        self.assertFalse(handler.flush(0.3))
        self.assertLessEqual(len(server.requests), 2)

    def test_the_request(self):
        server, _ = self.run_with(path="/in?x=1", token="s3cret")
        path, headers, messages, _ = server.requests[0]
        self.assertEqual(("/in?x=1", "application/syslog"), (path, headers["Content-Type"]))
        self.assertEqual("Bearer s3cret", headers["Authorization"])
        self.assertRegex(headers["Idempotency-Key"], "^[0-9a-f]{32}$")
        server, _ = self.run_with(credentials="me:p%40ss@")
        path, headers, _, _ = server.requests[0]
        self.assertEqual("/logs", path)
        self.assertEqual("Basic " + base64.b64encode(b"me:p@ss").decode(), headers["Authorization"])

    def test_the_one_that_is_refused_is_found_and_the_others_arrive(self):
        for status in (400, 413, 422):
            server = self.serve(HttpServer(answers=lambda messages: (status if any(m.endswith(b" bad") for m in messages) else 200, {})))
            logger, handler = self.logger(f"http://localhost:{server.port}", batch_seconds=3600)
            for n in range(100):
                logger.info("bad" if n == 37 else str(n))
            self.assertTrue(handler.flush(PATIENCE))
            server.received.wait_for(100)
            self.assertEqual([str(n) for n in range(100) if n != 37], self.texts(server)[:99])
            self.assertEqual({"INFO": 1}, handler.dropped)
            keys = {}
            for _, headers, messages, _ in server.requests:
                self.assertEqual(messages, keys.setdefault(headers["Idempotency-Key"], messages))

    def test_a_connection_that_ends_after_each_answer(self):
        server = self.serve(HttpServer(answers=lambda messages: (200, {"Connection": "close"})))
        logger, handler = self.logger(f"http://localhost:{server.port}", batch_size=2)
        for n in range(20):
            logger.info("%d", n)
        handler.close()
        self.assertEqual([str(n) for n in range(20)], self.texts(server))

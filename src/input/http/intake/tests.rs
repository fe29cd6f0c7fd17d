use super::*;
use crate::input::http::config::tests::http;
use crate::message::Zone;

fn settings() -> Settings {
    Settings { zone: Zone::parse("utc").expect("a zone"), ..Settings::default() }
}

async fn read(kind: Kind, body: &[u8], is_partial: bool) -> Result<(Vec<String>, Vec<Bad>), Vec<u8>> {
    let intake =
        Intake::read(kind, Read::of_query(body), &settings(), &http(), is_partial).await.map_err(|answer| answer.body)?;
    let text = |frame: &Frame| String::from_utf8_lossy(frame.span.of(&intake.arena)).into_owned();
    Ok((intake.frames.iter().map(text).collect(), intake.bad))
}

fn messages(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("<13>1 - - - - - - {i}")).collect()
}

#[tokio::test]
async fn objects_come_in_any_arrangement() {
    for body in [
        r#"{"msg":"1"}"#,
        r#"[{"msg":"1"},{"msg":"2"}]"#,
        "{\"msg\":\"1\"}\n{\"msg\":\"2\"}\r\n\n{\"msg\":\"3\"}",
        r#"{"msg":"1"}{"msg":"2"} [{"msg":"3"}]"#,
        "[]",
        "",
        " \n",
    ] {
        let (frames, bad) = read(Kind::Json, body.as_bytes(), false).await.expect(body);
        assert_eq!((frames, bad), (messages(body.matches("msg").count()), Vec::new()), "{body}");
    }
    let many = r#"{"msg":"x"}"#.repeat(3000);
    assert_eq!(read(Kind::Json, many.as_bytes(), false).await.map(|(frames, _)| frames.len()), Ok(3000));
}

#[tokio::test]
async fn a_bad_record_is_named_by_its_place() {
    let deep = format!("{{\"msg\":\"1\"}}\n{}", "[".repeat(100_000));
    for (body, record, line, column, what) in [
        ("{\"msg\":\"1\"}\n{\"msg\":\"2\"}\n{\"msg\":3", 3, 3, 8, "EOF while parsing an object"),
        ("{\"msg\":\"1\"}\n  {\"msg\" \"2\"}\n", 2, 2, 10, "expected `:`"),
        ("[{\"msg\":\"1\"}, 5]", 2, 1, 15, "an object is expected"),
        ("\"text\"", 1, 1, 1, "an object is expected"),
        ("{\"a\":\n [1,}]", 1, 2, 5, "expected value"),
        (&*deep, 2, 2, 100_000, "EOF while parsing a list"),
    ] {
        let answer = read(Kind::Json, body.as_bytes(), false).await.expect_err(body);
        let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
        let numbers = ["record", "line", "column"].map(|name| answer[name].as_u64().unwrap_or(0) as usize);
        assert_eq!((numbers, answer["error"].as_str()), ([record, line, column], Some(what)), "{answer}");
    }
    let answer = read(Kind::Json, b"{\"msg\":\"1\"}\n{\"msg\":\"\xff\"}", false).await.expect_err("no UTF-8");
    assert_eq!(answer, b"{\"record\":1,\"line\":2,\"column\":9,\"error\":\"it is no UTF-8\"}\n");
}

#[tokio::test]
async fn what_is_good_is_taken_where_that_is_asked() {
    let body = "{\"msg\":\"1\"}\nnonsense {\"msg\":\"x\"}\n{\"msg\":\"2\"}\n[5,{\"msg\":\"3\"}]\n{\"msg\":";
    let (frames, bad) = read(Kind::Json, body.as_bytes(), true).await.expect("in part");
    let places: Vec<_> = bad.iter().map(|bad| (bad.record, bad.line)).collect();
    assert_eq!((frames, places), (messages(3), vec![(2, 2), (4, 4), (6, 5)]));
}

#[tokio::test]
async fn lines_and_syslog_are_framed() {
    for (kind, body, frames) in [
        (Kind::Text, "one\ntwo\r\n\nthree", &["one", "two", "three"][..]),
        (Kind::Syslog, "<13>a\n<13>b\n  more\n<13>c", &["<13>a", "<13>b\n  more", "<13>c"]),
        (Kind::Syslog, "7 <13>a\nb5 <13>c", &["<13>a\nb", "<13>c"]),
        (Kind::Syslog, "", &[]),
    ] {
        assert_eq!(
            read(kind, body.as_bytes(), false).await.map(|(frames, _)| frames),
            Ok(frames.iter().map(|s| (*s).to_owned()).collect())
        );
    }
    let form = read(Kind::Form, b"name=app&msg=%25s&args=%28%27x%27%2C%29&levelno=40", false).await.expect("a form");
    assert_eq!(form.0, ["<11>1 - - app - - - x"]);
    assert!(read(Kind::Form, b"name=app", false).await.is_err());
}

#[test]
fn a_body_is_known_by_its_type_or_its_looks() {
    for (target, media, body, kind) in [
        ("/logs", "application/json; charset=utf-8", "x", Kind::Json),
        ("/logs", "application/x-ndjson", "", Kind::Json),
        ("/logs", "text/plain", "{}", Kind::Text),
        ("/logs", "application/syslog", "{}", Kind::Syslog),
        ("/logs?format=text", "application/json", "{}", Kind::Text),
        ("/logs", "", " [{}]", Kind::Json),
        ("/logs", "", "<13>x", Kind::Syslog),
        ("/logs", "", "words", Kind::Text),
        ("/logs", "application/x-www-form-urlencoded", "name=a&msg=b", Kind::Form),
        ("/logs", "application/x-www-form-urlencoded", "{\"a\":1}", Kind::Json),
        ("/logs", "application/x-www-form-urlencoded", "two words = x", Kind::Text),
    ] {
        let request = hyper::Request::post(target).header(CONTENT_TYPE, media).body(()).expect("a request");
        assert_eq!(Kind::of(&request.into_parts().0, body.as_bytes()).ok(), Some(kind), "{target} {media} {body}");
    }
}

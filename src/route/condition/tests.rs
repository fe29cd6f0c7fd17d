use std::sync::Arc;

use super::*;
use crate::message::{Origin, Received, Zone};
use crate::parse::{Options, parse};

fn holds(condition: &str, raw: &[u8]) -> bool {
    let condition = Condition::compile(condition).unwrap_or_else(|error| panic!("{condition}: {}", error.what));
    with_message(raw, |message| condition.holds(message, &mut Workspace::default()))
}

fn with_message<T>(raw: &[u8], use_it: impl FnOnce(&Message<'_>) -> T) -> T {
    let origin = Origin::new(Arc::from("net"), "10.1.2.3".parse().ok(), "here", Zone::Local);
    let received = Received::now();
    let fields = parse(raw, &Options::default());
    use_it(&Message { raw, fields, origin: &origin, received: &received, truncated: false, json: b"" })
}

const RAW: &[u8] = b"<164>1 - web1 python-app-7 12 - [a b=\"x \\\"y\\\"\"] Disk full on /var";

#[test]
fn conditions_hold_or_not() {
    for (condition, expected) in [
        (r#"app-name contains "python-app" and severity <= warning"#, true),
        (r#"app-name contains "python-app" and severity < warning"#, false),
        (r#"severity == warning and facility == local4"#, true),
        (r#"severity in [err, warning] and facility not in [mail]"#, true),
        (r#"not severity in [err]"#, true),
        (r#"hostname == "web1" or hostname == "web2""#, true),
        (r#"hostname != "web1""#, false),
        (r#"hostname in ["web1", 'web2']"#, true),
        (r#"message matches "(?i)disk FULL\s+on" "#, true),
        (r#"message startswith "Disk" and message endswith '/var'"#, true),
        (r#"sd[a][b] == "x \"y\"""#, true),
        (r#"sd[a][c] == """#, true),
        (r#"peer in ["10.0.0.0/8", "fd00::/8"]"#, true),
        (r#"peer in [192.168.0.1]"#, false),
        (r#"peer == "10.1.2.3""#, true),
        (r#"pri == 164 and version >= 1"#, true),
        (r#"(severity == err or severity == warning) and not (app-name == "x")"#, true),
        (r#"severity == err or severity == warning and app-name == "x""#, false),
        (r#"input == net"#, true),
        (r#"message|lower contains "disk full""#, true),
        (r#"hostname|upper|bytes:1-3 == "WEB" and (app-name|column:3:- == "7-")"#, false),
        (r#"app-name|column:3:"-" == 7 and (app-name|first:6 == "python")"#, true),
    ] {
        assert_eq!(holds(condition, RAW), expected, "{condition}");
    }
}

#[test]
fn keys_of_a_text_are_compared() {
    let raw = br#"<14>{"trace_id":"4bf9","status":503,"ms":1.5,"user":{"id":7},"http.method":"GET","@t":"x","none":null}"#;
    for (condition, expected) in [
        (r#"json.trace_id == "4bf9""#, true),
        (r#"trace-id == "4bf9" and trace_id in ["4bf9"]"#, true),
        (r#"json.status >= 500 and json.status < 504"#, true),
        (r#"json.status > 503"#, false),
        (r#"json.ms <= 1.5"#, true),
        (r#"json.absent <= 1 or json.trace_id > 0"#, false),
        (r#"json.user.id == 7 and json.http.method == GET and json.@t == x"#, true),
        (r#"json.none == """#, true),
        (r#"json.user.id|number == 7"#, true),
    ] {
        assert_eq!(holds(condition, raw), expected, "{condition}");
    }
    let error = Condition::compile("json.status >= many").expect_err("no number");
    assert_eq!((error.offset, &*error.what), (15, "`many` is no number"));
    assert!(Condition::compile("json. == 1").is_err());
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_is() {
    for (condition, offset, what) in [
        ("severty == err", 0, "no field is called `severty`: did you mean `severity`?"),
        ("severity == eror", 12, "no severity is called `eror`: did you mean `err`?"),
        ("message contans \"x\"", 8, "`contans` where one of"),
        ("message == \"x", 11, "a text without its closing `\"`"),
        ("message < \"x\"", 10, "only numbers, severities and facilities"),
        ("message matches \"(\"", 16, "`matches` has a wrong pattern"),
        ("peer in [\"10.0.0.0/99\"]", 8, "`10.0.0.0/99` is no network"),
        ("(severity == err", 16, "the end where `)` is expected"),
        ("severity == err err", 16, "`err` where `and`, `or` or the end is expected"),
        ("message|uper == \"X\"", 0, "no filter is called `uper`: did you mean `upper`?"),
        ("", 0, "the end where a field is expected"),
        ("severity ==", 11, "the end where a value"),
    ] {
        let error = Condition::compile(condition).expect_err(condition);
        assert_eq!(error.offset, offset, "{condition}: {}", error.what);
        assert!(error.what.starts_with(what), "{condition}: {}", error.what);
    }
    assert!(Condition::compile(&"(".repeat(100_000)).is_err(), "nesting is bounded");
    assert!(Condition::compile(&"not ".repeat(100_000)).is_err());
}

#[test]
fn a_condition_says_why() {
    let condition = Condition::compile(r#"app-name == "x" and severity == err"#).expect("a condition");
    assert_eq!(with_message(RAW, |message| condition.explain(message)), r#"app-name == "x": no, it is "python-app-7""#);
    let condition = Condition::compile("severity == err or severity == warning").expect("a condition");
    assert_eq!(with_message(RAW, |message| condition.explain(message)), r#"severity == warning: yes, it is "warning""#);
}

use std::sync::Arc;

use chrono::DateTime;

use super::*;
use crate::message::{Origin, Received, Zone};
use crate::parse::{Options, parse};

fn received() -> Received {
    Received { local: DateTime::parse_from_rfc3339("2026-11-20T21:14:26.5+00:00").expect("a time") }
}

fn with_message<T>(raw: &[u8], use_it: impl FnOnce(&Message<'_>) -> T) -> T {
    let zone = Zone::parse("utc").expect("a zone");
    let origin = Origin::new(Arc::from("net"), "192.0.2.7".parse().ok(), "here", zone);
    let received = received();
    let fields = parse(raw, &Options::default());
    use_it(&Message { raw, fields, origin: &origin, received: &received, truncated: false, json: b"" })
}

fn rendered(template: &str, escaping: Escaping, raw: &[u8]) -> String {
    let template = Template::compile(template, escaping).expect("a template");
    formatted(&Format::template(template), raw)
}

fn formatted(format: &Format, raw: &[u8]) -> String {
    with_message(raw, |message| {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        format.render(message, &mut scratch, &mut out);
        let first = out.len();
        format.render(message, &mut scratch, &mut out);
        assert_eq!(out[..first], out[first..], "what is cached is the same");
        String::from_utf8_lossy(&out[..first]).into_owned()
    })
}

const MESSAGE: &[u8] = b"<165>1 2003-10-11T22:14:15.003Z Host app 12 ID47 [a x=\"1\"] two\nlines";

#[test]
fn fields_and_filters() {
    for (template, expected) in [
        ("{pri} {facility} {severity} {version}", "165 local4 notice 1"),
        ("{facility|number}/{severity|number}", "20/5"),
        ("{hostname|upper} {hostname|lower} {app-name|first:2}", "HOST host ap"),
        ("{sd[a][x]} {sd[a][y]} {sd[b][x]|default:none}", "1 - none"),
        ("{message}|{message|json}", "two#012lines|\"two\\nlines\""),
        (
            "{timestamp} {timestamp|utc} {timestamp:%Y-%m-%d|utc}",
            "2003-10-11T22:14:15.003Z 2003-10-11T22:14:15.003000Z 2003-10-11",
        ),
        ("{received|utc} {received:%H:%M:%S|utc}", "2026-11-20T21:14:26.500000Z 21:14:26"),
        ("{{{peer}}} {input} {tag}", "{192.0.2.7} net app[12]:"),
    ] {
        assert_eq!(rendered(template, Escaping::Line, MESSAGE), expected);
    }
    assert_eq!(rendered("{message}", Escaping::Nothing, MESSAGE), "two\nlines");
    assert_eq!(rendered("{message|first:2}", Escaping::Line, "<1>aé".as_bytes()), "a");
}

#[test]
fn filters_take_parts_of_a_value() {
    let raw = br#"<13>Oct 11 22:14:15 web1 app[7]: id=42,say "hi"  {x|y}"#;
    for (template, expected) in [
        ("[{msg}] [{message}]", r#"[ id=42,say "hi"  {x|y}] [id=42,say "hi"  {x|y}]"#),
        ("{message|bytes:4-5} {message|bytes:1-0} {message|bytes:15-} {message|bytes:90-91}", "42    {x|y} "),
        (r#"{message|column:2:","} {message|column:3:","}/{message|column:2:"|"}"#, r#"say "hi"  {x|y} /y}"#),
        (r#"{message|match:"id=([0-9]+)"} {message|match:"[a-z]{3}"} {message|match:"no"|default:none}"#, "42 say none"),
        (r#"{message|replace:"\"":"'"|squeeze} {message|csv}"#, r#"id=42,say 'hi' {x|y} id=42,say ""hi""  {x|y}"#),
        ("{message|json-text}", r#"id=42,say \"hi\"  {x|y}"#),
        (r#"{hostname|lookup:site} {app-name|lookup:site} {msg-id|default:""}."#, "berlin elsewhere ."),
        ("{after-pri|bytes:1-6} {peer-name}", "Oct 11 192.0.2.7"),
        ("{message|default:a:b} {proc-id|default:x} {msg-id|default:a:b c}", r#"id=42,say "hi"  {x|y} 7 a:b c"#),
    ] {
        let lookup = Lookup {
            table: [(b"web1"[..].into(), b"berlin"[..].into())].into_iter().collect(),
            default: b"elsewhere"[..].into(),
        };
        let lookups = [("site".to_owned(), Arc::new(lookup))].into_iter().collect();
        let template = Template::with_lookups(template, Escaping::Line, &lookups).expect(template);
        assert_eq!(formatted(&Format::template(template), raw), expected);
    }
}

#[test]
fn a_template_that_cannot_be_meant_is_refused_where_it_is() {
    for (template, offset, what) in [
        ("a {hostnam}", 2, "no field is called `hostnam`: did you mean `hostname`?"),
        ("{message|uper}", 0, "no filter is called `uper`: did you mean `upper`?"),
        ("ab {", 3, "`{` without its `}`: write `{{` for a brace"),
        ("ab }", 3, "a lone `}`: write `}}` for a brace"),
        ("{timestamp:%Q}", 0, "`%Q` is no strftime format"),
        ("{timestamp:%#z}", 0, "`%#z` is no strftime format"),
        ("{message:%H}", 0, "`message` takes no format: only `timestamp` and `received` do"),
        ("{message|bytes:0-3}", 0, "filter `bytes` takes the first octet and the last: `bytes:1-32`, `bytes:2-`"),
        ("{message|lookup:sites}", 0, "filter `lookup` finds no `[lookup.sites]`; there is "),
        ("{message|first:x}", 0, "filter `first` takes a number of bytes: `first:32`"),
    ] {
        let error = Template::compile(template, Escaping::Line).expect_err(template);
        assert_eq!((error.offset, error.what.as_str()), (offset, what));
    }
}

#[test]
fn the_built_in_formats() {
    let python = b"<11>app: boom\nTraceback\xff";
    let bsd = b"<34>Oct 11 22:14:15 mymachine postfix/smtpd[7]: x\ty";
    for (format, raw, expected) in [
        ("raw", MESSAGE, "<165>1 2003-10-11T22:14:15.003Z Host app 12 ID47 [a x=\"1\"] two#012lines"),
        ("rfc5424", MESSAGE, "<165>1 2003-10-11T22:14:15.003Z Host app 12 ID47 [a x=\"1\"] two#012lines"),
        ("rfc5424", bsd, "<34>1 2026-10-11T22:14:15+00:00 mymachine postfix 7 - - x#011y"),
        ("rfc5424", python, "<11>1 2026-11-20T21:14:26.500000+00:00 192.0.2.7 app - - - app: boom#012Traceback\u{fffd}"),
        (
            "json",
            python,
            "{\"received\":\"2026-11-20T21:14:26.500000+00:00\",\"facility\":\"user\",\"severity\":\"err\",\"hostname\":\"192.0.2.7\",\"app_name\":\"app\",\"message\":\"app: boom\\nTraceback\u{fffd}\",\"peer\":\"192.0.2.7\",\"input\":\"net\"}",
        ),
        (
            "json",
            MESSAGE,
            "{\"timestamp\":\"2003-10-11T22:14:15.003Z\",\"received\":\"2026-11-20T21:14:26.500000+00:00\",\"facility\":\"local4\",\"severity\":\"notice\",\"hostname\":\"Host\",\"app_name\":\"app\",\"proc_id\":\"12\",\"msg_id\":\"ID47\",\"structured_data\":{\"a\":{\"x\":\"1\"}},\"message\":\"two\\nlines\",\"peer\":\"192.0.2.7\",\"input\":\"net\"}",
        ),
    ] {
        let format = Format::builtin(format, Escaping::Line).expect("a format");
        assert_eq!(formatted(&format, raw), expected);
    }
    let file = |raw| formatted(&Format::builtin("file", Escaping::Line).expect("a format"), raw);
    assert!(file(bsd).ends_with(" mymachine postfix/smtpd[7]: x#011y"), "the tag is whole");
    assert!(file(python).ends_with(" 192.0.2.7 app: boom#012Traceback\u{fffd}"), "a name in the text is not said twice");
    assert!(file(MESSAGE).ends_with(" Host app[12]: two#012lines"));
    let rfc3164 = Format::builtin("rfc3164", Escaping::Nothing).expect("a format");
    assert!(formatted(&rfc3164, MESSAGE).starts_with("<165>Oct 1"));
}

#[test]
fn no_field_leaves_its_folder() {
    let path = "/base/{hostname}/{app-name}.log";
    for (raw, expected) in [
        ("<1>1 - ../../etc .. - - - x", "/base/_._.._etc/_..log"),
        ("<1>1 - . /etc/passwd - - - x", "/base/_/_etc_passwd.log"),
        ("<1>x", "/base/192.0.2.7/-.log"),
        ("<1>1 - h .hidden - - - x", "/base/h/_hidden.log"),
    ] {
        assert_eq!(rendered(path, Escaping::Path, raw.as_bytes()), expected);
    }
    assert_eq!(rendered("{message|default:none}", Escaping::Path, b"<1>a\0b\x1b"), "a_b_");
    let long = rendered("/b/{message}{message}.log", Escaping::Path, format!("<1>{}", "x".repeat(300)).as_bytes());
    assert!(long.split('/').all(|name| name.len() <= NAME_MAX) && long.ends_with("x.log"));
}

#[test]
fn control_bytes_of_both_kinds_are_escaped() {
    assert_eq!(rendered("{message}", Escaping::Line, "<1>\u{1b}[2J\u{9b}é\u{7f}".as_bytes()), "#033[2J#302#233é#177");
}

/// Every conversion of strftime, over stamps a nanosecond to years apart: one clock says what a fresh one says.
#[test]
fn a_warm_clock_shows_no_stale_time() {
    let stamps = [
        "2026-03-29T00:59:59.999999Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T01:00:00.000001Z",
        "2026-03-29T01:00:59Z",
        "2026-03-29T01:01:00Z",
        "2026-03-29T03:01:00+02:00",
        "2026-12-31T23:59:59Z",
        "2027-01-01T00:00:00+01:00",
    ];
    for conversion in "YCymbBhdeaAwuUWGgVjDxFvHkIlPpMSfRTXrcsZz+".chars().chain("tn%".chars()) {
        for wall in ["", "|local", "|utc"] {
            let text =
                format!("{{timestamp:%{conversion}%-d%.3f{wall}}}{{timestamp:%{conversion}{wall}}}{{timestamp:%:z{wall}}}");
            let template = Template::compile(&text, Escaping::Nothing).expect("a template");
            let mut warm = Scratch::default();
            for stamp in stamps {
                let raw = format!("<1>1 {stamp} h a - - - x");
                with_message(raw.as_bytes(), |message| {
                    let (mut one, mut other) = (Vec::new(), Vec::new());
                    template.render(message, &mut warm, &mut one);
                    template.render(message, &mut Scratch::default(), &mut other);
                    assert_eq!(String::from_utf8_lossy(&one), String::from_utf8_lossy(&other), "{text} {stamp}");
                    assert!(!one.is_empty());
                });
            }
        }
    }
}

/// What the library itself writes.
#[test]
fn conversions_are_those_of_the_library() {
    let all = "%Y %C %y %m %b %B %h %d %e %a %A %w %u %U %W %G %g %V %j %D %x %F %v %H %k %I %l %P %p %M %S %f %.f %.3f %R %T %X %r %z %:z %::z %+ %s %c %Z";
    for stamp in ["2026-03-29T00:59:59.999999Z", "2003-08-24T05:14:15.000003-07:00", "1969-12-31T23:59:59+05:45"] {
        let expected = DateTime::parse_from_rfc3339(stamp).expect("a time").to_utc().fixed_offset().format(all).to_string();
        let raw = format!("<1>1 {stamp} h a - - - x");
        assert_eq!(rendered(&format!("{{timestamp:{all}|utc}}"), Escaping::Nothing, raw.as_bytes()), expected);
    }
}

#[test]
fn paths_that_could_be_one() {
    let path = |text: &str| Template::compile(text, Escaping::Path).expect("a template");
    for (a, b, may_meet) in [
        ("/l/x.log", "/l/x.log", true),
        ("/l/x.log", "/l/y.log", false),
        ("/l/{hostname}.log", "/l/y.log", true),
        ("/l/{hostname}.log", "/l/y.txt", false),
        ("/l/{hostname}/{app-name}.log", "/l/{peer}/all.log", true),
        ("/l/{hostname}/a-{app-name}.log", "/l/{hostname}/b-{app-name}.log", false),
        ("/l/{hostname}/x.log", "/l/{hostname}.log", false),
        ("/l/{received:%Y/%m}.log", "/l/{hostname}/{app-name}.log", true),
    ] {
        assert_eq!((path(a).may_meet(&path(b)), path(b).may_meet(&path(a))), (may_meet, may_meet), "{a} {b}");
    }
}

/// JSON with and without a tag or cookie, logfmt, and structured data.
const STRUCTURED: [&str; 5] = [
    r#"<14>{"service":"api","trace_id":"4bf9","user":{"id":7},"tags":["a"], "text":"two\nlines"}"#,
    r#"<14>api[7]: @cee: {"service":"api","trace_id":"4bf9","user":{"id":7},"tags":["a"], "text":"two\nlines"}"#,
    r#"<14>1 - - - - - - {"service":"api","trace":{"id":"4bf9"},"user":{"id":7},"tags":["a"], "text":"two\nlines"}"#,
    r#"<14>service=api traceparent=00-4bf9-00f0-01 user.id=7 tags="[\"a\"]" text="two\nlines""#,
    r#"<14>1 - - - - - [t@32473 traceId="4bf9" spanId="00f0"] service up"#,
];

#[test]
fn keys_and_values_of_a_text_are_fields() {
    let template =
        "{json.service|default:-} {trace-id} {trace_id} {span-id} {json.user.id} {json.tags.0} {json.tags} {json.text}";
    for (raw, expected) in STRUCTURED.iter().zip([
        r#"api 4bf9 4bf9 - 7 a ["a"] two#012lines"#,
        r#"api 4bf9 4bf9 - 7 a ["a"] two#012lines"#,
        r#"api 4bf9 4bf9 - 7 a ["a"] two#012lines"#,
        r#"api 4bf9 4bf9 00f0 7 - ["a"] two#012lines"#,
        "- 4bf9 4bf9 00f0 - - - -",
    ]) {
        assert_eq!(rendered(template, Escaping::Line, raw.as_bytes()), expected, "{raw}");
    }
    assert_eq!(
        rendered("/var/log/{json.user}/{json.x}.log", Escaping::Path, br#"<14>{"user":"../a/b"}"#),
        "/var/log/_._a_b/-.log"
    );
}

#[test]
fn json_of_a_structured_message_is_nested() {
    let format = Format::builtin("json", Escaping::Line).expect("a format");
    for (raw, expected) in [
        (STRUCTURED[0], r#""json":{"service":"api","trace_id":"4bf9","user":{"id":7},"tags":["a"],"text":"two\nlines"},"peer""#),
        (STRUCTURED[1], r#""app_name":"api","proc_id":"7","json":{"service":"api","#),
        ("<14>a=1 b=\"x \\\"y\\\"\"", r#""message":"a=1 b=\"x \\\"y\\\"\"","json":{"a":"1","b":"x \"y\""},"peer""#),
        ("<14>{\"a\":1} and more", r#""message":"{\"a\":1} and more","peer""#),
        ("<14>{\"a\":\"\x7f\"}", r#""json":{"a":"\u007f"}"#),
    ] {
        let line = formatted(&format, raw.as_bytes());
        assert!(line.contains(expected), "{line}");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    }
}

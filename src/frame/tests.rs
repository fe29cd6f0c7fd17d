use proptest::prelude::*;

use super::*;

/// Everything in one piece, then the end of the stream.
fn frames(stream: &[u8]) -> Vec<String> {
    frames_by(Framing::Auto, 64 << 10, &[(stream, Event::End)])
}

fn frames_by(framing: Framing, max: usize, pieces: &[(&[u8], Event)]) -> Vec<String> {
    let mut framer = Framer::new(framing, max);
    let (mut held, mut found, mut frames) = (Vec::new(), Vec::new(), Vec::new());
    for (piece, event) in pieces {
        held.extend_from_slice(piece);
        let used = framer.split(&held, *event, &mut frames);
        found.extend(frames.drain(..).map(|frame| String::from_utf8_lossy(frame.span.of(&held)).into_owned()));
        held.drain(..used);
    }
    found
}

#[test]
fn the_framing_is_found_for_each_frame() {
    let cases: [(&[u8], &[&str]); 20] = [
        (b"<1>a\n<2>b\n", &["<1>a", "<2>b"]),
        (b"<1>a\r\n<2>b\r\n", &["<1>a", "<2>b"]),
        (b"<1>a\0<2>b\0", &["<1>a", "<2>b"]),
        (b"<1>a\n\0<2>b\n\0", &["<1>a", "<2>b"]),
        (b"4 <1>a6 <2>b\nc", &["<1>a", "<2>b\nc"]),
        (b"4 <1>a\n4 <2>b\n<3>c\n4 <4>d", &["<1>a", "<2>b", "<3>c", "<4>d"]),
        (b"<1>last without trailer", &["<1>last without trailer"]),
        (b"50 <1>cut off", &["<1>cut off"]),
        (b"<133>Msg 1\nLine 2\n<133>Msg 2", &["<133>Msg 1\nLine 2", "<133>Msg 2"]),
        (b"plain\nlines\n", &["plain", "lines"]),
        (b"<181>00\n <181>01\n", &["<181>00", "<181>01"]),
        (b"<13>a\0b\n<13>c\n", &["<13>a\0b", "<13>c"]),
        (b"16 <1>1 A B C D E -xaaa", &["<1>1 A B C D E -", "xaaa"]),
        (b"16 <1>1", &["<1>1"]),
        (b"16<1>1", &["16<1>1"]),
        (b"1", &["1"]),
        (b"214000000000 <120>x\n<1>a\n", &["214000000000 <120>x", "<1>a"]),
        (b"0 <1>a\n<1>b\n", &["0 <1>a", "<1>b"]),
        (b"5 <1>ab7xx7 <2>good", &["<1>ab", "7xx", "<2>good"]),
        (b"\n\n\0\r\n", &[]),
    ];
    for (stream, expected) in cases {
        assert_eq!(frames(stream), expected, "{}", String::from_utf8_lossy(stream));
    }
}

const TRACEBACK: &[u8] =
    b"<11>boom\nTraceback (most recent call last):\n  File \"x\", line 1\n\nZeroDivisionError: division by zero\0";

#[test]
fn a_traceback_is_one_message_wherever_the_stream_is_cut() {
    let stream = [b"<14>first\0", TRACEBACK, b"<14>third\0"].concat();
    for cut in 0..=stream.len() {
        let (a, b) = stream.split_at(cut);
        let found = frames_by(Framing::Auto, 64 << 10, &[(a, Event::More), (b, Event::End)]);
        assert_eq!(found.len(), 3, "cut at {cut}: {found:?}");
        assert!(found[1].ends_with("division by zero"));
    }
    let found = frames_by(Framing::Auto, 64 << 10, &[(&TRACEBACK[..9], Event::More), (&TRACEBACK[9..], Event::Pause)]);
    assert_eq!(found.len(), 1, "the first message of a stream is held until its NUL");
}

#[test]
fn a_pause_ends_what_only_time_can_end() {
    let mut framer = Framer::new(Framing::Auto, 1000);
    let mut frames = Vec::new();
    assert_eq!(framer.split(b"<13>a line\n", Event::More, &mut frames), 0);
    assert_eq!(framer.patience(b"<13>a line\n"), Some(BRIEF));
    assert_eq!(framer.split(b"<13>a line\n", Event::Pause, &mut frames), 11);
    assert_eq!(frames.len(), 1);
    assert_eq!(framer.patience(b"<13>half a li"), None);
    assert_eq!(framer.patience(b"<13>whole\nhalf"), Some(LONG));
    assert_eq!(framer.split(b"<13>whole\nhalf", Event::Pause, &mut frames), 10);
}

#[test]
fn a_stream_proven_to_be_lines_is_not_held() {
    let mut framer = Framer::new(Framing::Auto, 1000);
    let stream = b"<13>x\n".repeat(18);
    framer.split(&stream, Event::More, &mut Vec::new());
    assert_eq!(framer.patience(b"<13>x\n"), Some(Duration::ZERO));
}

#[test]
fn overlong_frames_are_cut_and_the_next_is_intact() {
    let long = "x".repeat(500);
    for (framing, stream) in [
        (Framing::Auto, format!("<1>{long}\n<2>next\n")),
        (Framing::Auto, format!("<0>a\0<1>{long}\0<2>next\0")),
        (Framing::Auto, format!("503 <1>{long}7 <2>next")),
        (Framing::OctetCounted, format!("503 <1>{long}7 <2>next")),
        (Framing::Newline, format!("<1>{long}\n<2>next\n")),
        (Framing::Nul, format!("<1>{long}\0<2>next\0")),
    ] {
        let found = frames_by(framing, 480, &[(stream.as_bytes(), Event::End)]);
        assert_eq!(found.last().map(String::as_str), Some("<2>next"), "{framing:?}");
        assert_eq!(found[found.len() - 2].len(), 480);
    }
}

#[test]
fn joined_lines_that_grow_too_long_are_parted_at_a_line_and_not_lost() {
    let lines: String = (0..100).map(|i| format!("line {i}\n")).collect();
    let found = frames_by(Framing::Auto, 480, &[(format!("<1>start\n{lines}<2>next\n").as_bytes(), Event::End)]);
    let text = found.join("\n");
    assert!((0..100).all(|i| text.contains(&format!("line {i}"))), "{text}");
    assert_eq!(found.last().map(String::as_str), Some("<2>next"));
}

#[test]
fn every_line_is_a_message_where_the_input_says_newline() {
    let found = frames_by(Framing::Newline, 1000, &[(b"<133>Msg 1\nLine 2\n<133>Msg 2", Event::End)]);
    assert_eq!(found, ["<133>Msg 1", "Line 2", "<133>Msg 2"]);
}

#[test]
fn one_nul_and_one_line_end_are_taken_off() {
    for (bytes, expected) in [(&b"a\0"[..], 1), (b"a\n\0", 1), (b"a\r\n", 1), (b"a\0\0", 2), (b"a\n\n", 2), (b"", 0)] {
        assert_eq!(trimmed(bytes), expected);
    }
}

#[test]
fn what_decides_may_stand_behind_the_limit() {
    for tail in [&b"7 <2>good"[..], b"\0<2>good\0", b"\n<2>good\n"] {
        for length in 30..60 {
            let stream = [b"4 <1>a", &vec![b'x'; length][..], tail].concat();
            cuts_do_not_matter(&stream, &[0; 200], Framing::Auto, 48);
        }
    }
}

/// A peer that sends nothing but what might be a beginning cannot make us keep it all.
#[test]
fn nothing_is_held_without_bound() {
    for framing in [Framing::Auto, Framing::Newline, Framing::Nul, Framing::OctetCounted] {
        for start in [&b""[..], b"<13>x\n", b"4 <1>a", b"<13>x\0", b"1", b"<"] {
            for filler in *b" 1<x\n\0" {
                let mut framer = Framer::new(framing, 480);
                let stream = [start, &vec![filler; 2000][..]].concat();
                let used = framer.split(&stream, Event::More, &mut Vec::new());
                assert!(stream.len() - used <= 480 + 32, "{framing:?} {start:?} {filler}: {}", stream.len() - used);
            }
        }
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"<13>".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\0".to_vec()),
        Just(b" ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"12 <1>".to_vec()),
        Just(b"7 <12>ab".to_vec()),
        Just(b"<".to_vec()),
        "[a-z0-9 ]{0,12}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames(stream in stream(), cuts in prop::collection::vec(0u8..6, 0..200)) {
        for framing in [Framing::Auto, Framing::Newline, Framing::Nul, Framing::OctetCounted] {
            cuts_do_not_matter(&stream, &cuts, framing, 48);
        }
    }
}

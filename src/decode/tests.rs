//! The decoder as a specification: each accepted shape, each kind of damage, and any way of cutting.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::limits::JSON_DEPTH;

#[allow(unreachable_pub, reason = "shared with the fuzz targets")]
#[path = "../../tests/common/naive_split.rs"]
mod naive_split;

#[allow(unreachable_pub, reason = "shared with the fuzz targets")]
#[path = "../../tests/common/same_members.rs"]
mod same_members;

/// What a sink was told: bytes of each record, with the reason where it is broken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    found: Vec<(Vec<u8>, Option<Broken>)>,
    open: Option<(Vec<u8>, Broken)>,
    /// Records whose members were noted.
    noted: usize,
}

impl Sink for Seen {
    type Error = Infallible;

    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Infallible> {
        assert_eq!(index as usize, self.found.len(), "records come in order");
        assert!(self.open.is_none(), "a broken record is ended before the next begins");
        self.found.push((record.bytes.to_vec(), None));
        same_members::check(record);
        self.noted += usize::from(record.outline.is_some());
        Ok(())
    }

    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Infallible> {
        assert_eq!(index as usize, self.found.len(), "parts carry the number of their record");
        let (mut bytes, first) = self.open.take().unwrap_or((Vec::new(), why));
        assert_eq!(first, why, "the reason stays the same");
        bytes.extend_from_slice(part);
        match last {
            true => self.found.push((bytes, Some(why))),
            false => self.open = Some((bytes, why)),
        }
        Ok(())
    }
}

/// Decodes `object`, cut into pieces of the given lengths, over and over. Whether members are noted changes nothing.
fn decode(object: &[u8], cuts: &[usize], max_record: usize) -> (Seen, Result<Summary, DecodeError>) {
    let noting = decode_noting(object, cuts, max_record, true);
    let (plain, end) = decode_noting(object, cuts, max_record, false);
    assert_eq!((&plain.found, &plain.open, plain.noted), (&noting.0.found, &noting.0.open, 0));
    assert_eq!(end, noting.1);
    noting
}

fn decode_noting(
    object: &[u8],
    cuts: &[usize],
    max_record: usize,
    noting: bool,
) -> (Seen, Result<Summary, DecodeError>) {
    let mut decoder = Decoder::new(max_record, 1 << 20);
    decoder.start_noting(noting);
    let (mut seen, mut rest) = (Seen::default(), object);
    let mut feed = || {
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*cut).clamp(1, rest.len()));
            decoder.feed(piece, &mut seen)?;
            rest = behind;
        }
        decoder.finish(&mut seen)
    };
    let end = feed().map_err(|failure| match failure {
        Failure::Object(error) => error,
        Failure::Sink(never) => match never {},
    });
    (seen, end)
}

/// The records of a plain text that decodes, broken ones with their reason.
fn records(text: &str) -> Vec<(String, Option<Broken>)> {
    let (seen, end) = decode(text.as_bytes(), &[usize::MAX], 1000);
    let summary = end.unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(summary.records as usize, seen.found.len());
    assert_eq!((summary.inflated, summary.gzip, summary.members), (text.len() as u64, false, 0));
    seen.found.into_iter().map(|(bytes, why)| (String::from_utf8(bytes).expect("UTF-8"), why)).collect()
}

fn good(text: &str) -> Vec<String> {
    let records = records(text);
    records.into_iter().map(|(bytes, why)| why.map_or(bytes, |why| panic!("{text}: {why}"))).collect()
}

fn refused(text: &str) -> DecodeError {
    decode(text.as_bytes(), &[usize::MAX], 1000).1.expect_err(text)
}

fn not_json_at(text: &str) -> u64 {
    match refused(text) {
        DecodeError::NotJson { offset, .. } => offset,
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn the_elements_of_records_are_the_records() {
    assert_eq!(good(r#"{"Records":[{"a":1},{"b":"}"}]}"#), [r#"{"a":1}"#, r#"{"b":"}"}"#]);
    assert_eq!(good(r#"{"Records":[]}"#), [""; 0]);
    assert_eq!(
        good("{\r\n  \"Records\" : [ {\n\t\"a\" : [ 1 ] } , { } ] \n} \n"),
        ["{\n\t\"a\" : [ 1 ] }", "{ }"]
    );
    assert_eq!(good("\u{feff}{\"Records\":[{}]}\n"), ["{}"]);
    assert_eq!(good(r#"{"\u0052ecord\u0073":[{}]}"#), ["{}"]);
}

#[test]
fn other_keys_may_stand_before_and_behind_records() {
    let text = r#"{"v":1.5e3,"n":null,"s":"\"Records\":[{\"no\":0}]","o":{"Records":[{"no":1}]},"l":[[{"Records":[2]}]],
        "Records":[{"yes":1}],"x":{"Records":[{"no":3}]},"y":"z","Recordss":[{"no":4}]}"#;
    assert_eq!(good(text), [r#"{"yes":1}"#]);
}

#[test]
fn values_of_a_second_records_array_do_not_vanish() {
    assert_eq!(good(r#"{"Records":[{"a":1}],"Records":[{"b":2}]}"#), [r#"{"a":1}"#, r#"{"b":2}"#]);
}

#[test]
fn an_array_holds_records_too() {
    assert_eq!(good("[{\"a\":1},\n {\"b\":2}]\n"), [r#"{"a":1}"#, r#"{"b":2}"#]);
    assert_eq!(good("[]"), [""; 0]);
}

#[test]
fn an_object_without_a_records_array_is_a_record() {
    assert_eq!(
        good("{\"a\":1}\n{\"b\":{\"Records\":[]}}\r\n\n{}"),
        [r#"{"a":1}"#, r#"{"b":{"Records":[]}}"#, "{}"]
    );
    assert_eq!(good(r#"{"a":1}{"b":2} {"c":3}"#), [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#]);
    for odd in [r#"{"Records":null}"#, r#"{"Records":{"a":[]}}"#, r#"{"Records":"[]"}"#, r#"{"Records":7}"#] {
        assert_eq!(good(odd), [odd]);
    }
    assert_eq!(
        good("{\n \"a\": {\n  \"b\": 1\n }\n}\n{\n \"c\": 2\n}"),
        ["{\n \"a\": {\n  \"b\": 1\n }\n}", "{\n \"c\": 2\n}"]
    );
}

#[test]
fn merged_texts_are_all_read() {
    let text = "{\"Records\":[{\"a\":1}]}{\"Records\":[{\"b\":2}]}\n\u{feff}[{\"c\":3}]\n{\"d\":4}\n";
    assert_eq!(good(text), [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#, r#"{"d":4}"#]);
}

#[test]
fn elements_that_are_no_objects_are_set_aside_and_the_rest_goes_on() {
    let found = records(r#"{"Records":[null,{"a":1},"te\"xt, ]",-1.5e9, true ,[{"b":1},[2]],{"c":1}]}"#);
    let no = Some(Broken::NotAnObject);
    let expected = [
        ("null", no),
        (r#"{"a":1}"#, None),
        (r#""te\"xt, ]""#, no),
        ("-1.5e9", no),
        ("true", no),
        (r#"[{"b":1},[2]]"#, no),
        (r#"{"c":1}"#, None),
    ];
    assert_eq!(found, expected.map(|(text, why)| (text.to_string(), why)));
}

#[test]
fn a_record_that_is_too_long_or_too_deep_is_set_aside_whole_and_the_rest_goes_on() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(2000));
    let deep = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    let deepest = deep(JSON_DEPTH);
    let too_deep = deep(JSON_DEPTH + 1);
    let expected = [
        (long.clone(), Some(Broken::TooLong)),
        (deepest.clone(), None),
        (too_deep.clone(), Some(Broken::TooDeep)),
        ("{}".into(), None),
    ];
    assert_eq!(records(&format!(r#"{{"Records":[{long},{deepest},{too_deep},{{}}]}}"#)), expected);
    assert_eq!(records(&format!("{long}\n{deepest}\n{too_deep}\n{{}}\n")), expected);
}

#[test]
fn a_bad_line_among_good_ones_is_set_aside_alone() {
    let bad = [
        "{\"b\":]}",
        "{\"b\":\"",
        "{\"b\" 1}",
        "{b:1}",
        "{\"b\":{\"c\":1",
        "{\"b\":1",
        "{\"b\":[1}",
        "rubbish",
        "\"b\"",
        "7",
        "}",
        "\u{f8ff}x",
        "\u{0}\u{0}",
    ];
    for bad in bad {
        let found = records(&format!("{{\"a\":1}}\n{bad}\n{{\"c\":1}}\n"));
        let expected = [(r#"{"a":1}"#, None), (bad, Some(Broken::NotJson)), (r#"{"c":1}"#, None)];
        assert_eq!(found, expected.map(|(text, why)| (text.to_string(), why)), "{bad}");
    }
    let found = records("{\"a\":1}\nrubbish without a line feed");
    assert_eq!(found[1], ("rubbish without a line feed".into(), Some(Broken::NotJson)));
}

#[test]
fn what_breaks_a_record_first_is_the_reason() {
    let deep_then_fault = format!(r#"{{"a":{}"#, "[".repeat(JSON_DEPTH));
    let fault_then_long = format!(r#"{{"a":]{}"#, "x".repeat(2000));
    let long_then_fault = format!(r#"{{"a":"{}"]"#, "x".repeat(2000));
    let deep_then_long = format!(r#"{{"a":{}"#, "[".repeat(2000));
    for (line, why) in [
        (deep_then_fault + "\\", Broken::TooDeep),
        (fault_then_long, Broken::NotJson),
        (long_then_fault, Broken::TooLong),
        (deep_then_long + "\\", Broken::TooDeep),
    ] {
        for cut in [1, 7, 64, 999, usize::MAX] {
            let text = format!("{line}\n{{}}");
            let (seen, end) = decode(text.as_bytes(), &[cut], 1000);
            assert!(end.is_ok(), "{line}: {end:?}");
            assert_eq!(seen.found, [(line.clone().into_bytes(), Some(why)), (b"{}".to_vec(), None)], "{cut}");
        }
    }
}

#[test]
fn a_fault_that_hides_the_next_record_refuses_the_text() {
    assert_eq!(not_json_at("<html>"), 0);
    assert_eq!(not_json_at("\u{feff}x"), 3);
    assert_eq!(not_json_at("null"), 0);
    assert_eq!(not_json_at(r#"{"Records":[{"a":[}]}"#), 18);
    assert_eq!(not_json_at(r#"{"Records":[{}{}]}"#), 14);
    assert_eq!(not_json_at(r#"{"Records":[{},]}"#), 15);
    assert_eq!(not_json_at(r#"{"Records":[,]}"#), 12);
    assert_eq!(not_json_at(r#"{"Records":[{}}"#), 14);
    assert_eq!(not_json_at(r#"{"Records":[{}],}"#), 16);
    assert_eq!(not_json_at(r#"{"Records":[{}] "x":1}"#), 16);
    assert_eq!(not_json_at(r#"{"Records":[{\"a\":1}]}"#), 13);
    assert_eq!(not_json_at("{\n\"a\":1,\n]"), 9);
    assert_eq!(
        not_json_at(&format!(r#"{{"Records":[],"x":{}"#, "[".repeat(JSON_DEPTH))),
        18 + JSON_DEPTH as u64 - 1
    );
}

#[test]
fn a_text_that_ends_early_is_truncated() {
    let whole = r#"{"v":"x","Records":[{"a":[1,"\\"]},null,"s",7],"w":{"x":null}}"#;
    for end in 1..whole.len() {
        assert_eq!(refused(&whole[..end]), DecodeError::Truncated { what: "JSON text" }, "{end}");
    }
    assert_eq!(refused("{\"a\":1}\n{\"b\":"), DecodeError::Truncated { what: "JSON text" });
    assert_eq!(decode(b"\xef\xbb", &[1], 1000).1, Err(DecodeError::Truncated { what: "JSON text" }));
}

#[test]
fn nothing_at_all_is_said_to_be_empty() {
    for nothing in ["", " \n", "\u{feff}\n"] {
        assert_eq!(refused(nothing), DecodeError::Empty);
    }
}

#[test]
fn the_text_of_an_object_is_bounded() {
    let mut decoder = Decoder::new(100, 20);
    for (text, fits) in [("{\"Records\":[{}    ]}", true), ("{\"Records\":[{}     ]}", false)] {
        decoder.start();
        let fed = decoder.feed(text.as_bytes(), &mut Seen::default());
        assert_eq!(fed, if fits { Ok(()) } else { Err(DecodeError::TooLarge { limit: 20 }.into()) });
    }
}

/// newrelic/aws_s3_log_ingestion_lambda#97: a decompression bomb.
#[test]
fn a_bomb_is_stopped_at_the_bound() {
    let bomb = gzip(&vec![b' '; 2 << 20]);
    assert!(bomb.len() < 4096);
    assert_eq!(decode(&bomb, &[1000], 1000).1, Err(DecodeError::TooLarge { limit: 1 << 20 }));
}

/// logstash-input-s3#101, vector#7138, data-prepper#1568: members behind the first were lost.
/// aws/aws-cli#10324: bytes behind the last member went unnoticed.
#[test]
fn all_gzip_members_are_read_and_what_is_behind_them_is_told() {
    let mut object = gzip(br#"{"Records":[{"a":1},{"b":"#);
    object.extend(gzip(br#"2}]}"#));
    object.extend(gzip(b"{\"Records\":[{\"c\":3}]}\n"));
    object.extend([0; 7]);
    let (seen, end) = decode(&object, &[3], 1000);
    let found: Vec<&[u8]> = seen.found.iter().map(|(bytes, _)| bytes.as_slice()).collect();
    assert_eq!(found, [&b"{\"a\":1}"[..], b"{\"b\":2}", b"{\"c\":3}"]);
    assert_eq!(end, Ok(Summary { records: 3, inflated: 51, members: 3, trailing: 7, gzip: true }));
}

#[test]
fn a_decoder_takes_the_next_object_after_any_failure() {
    let whole = gzip(br#"{"Records":[{"a":1}]}"#);
    let mut decoder = Decoder::new(1000, 1000);
    for cut in 0..whole.len() {
        decoder.start();
        let mut seen = Seen::default();
        decoder.feed(&whole[..cut], &mut seen).expect("no fault before the end");
        assert!(decoder.finish(&mut seen).is_err(), "cut at {cut}");
        decoder.start();
        let mut seen = Seen::default();
        decoder.feed(&whole, &mut seen).expect("good");
        assert_eq!(decoder.finish(&mut seen).map(|summary| summary.records), Ok(1));
    }
}

#[test]
fn the_sink_can_stop_the_decoder() {
    struct Full;
    impl Sink for Full {
        type Error = &'static str;
        fn record(&mut self, _: u32, _: Record<'_>) -> Result<(), &'static str> {
            Err("full")
        }
        fn broken(&mut self, _: u32, _: Broken, _: &[u8], _: bool) -> Result<(), &'static str> {
            Err("full")
        }
    }
    for text in [r#"{"Records":[{}]}"#, r#"{"Records":[null]}"#] {
        let mut decoder = Decoder::new(1000, 1000);
        decoder.start();
        assert_eq!(decoder.feed(text.as_bytes(), &mut Full), Err(Failure::Sink("full")));
    }
}

/// That members are noted where they can be: look-ups would only be slower without.
#[test]
fn of_what_is_json_the_members_are_noted_however_it_is_cut() {
    let long =
        format!("{{\"k\":[{}],\"z\":\"\\\\\"}}", "{\"a\":[1,\"x\"]},".repeat(30).trim_end_matches(','));
    let many = |count: usize| {
        format!("{{{}}}", (0..count).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(","))
    };
    let native = r#"{"a":1.5e3,"b":null,"c":{"d":"}"},"e\u0066":"x\"y,:","g":[{}],"":"","h":true}"#;
    let spread = "{ \"a\" :\t1 ,\n\"b\": { } , \"c\":\"x\"\r}";
    for record in ["{}", "{ }", native, spread, &long, &many(1), &many(64)] {
        let object = format!("{{\"Records\":[{record},{record}]}}");
        for cut in 1..80 {
            let (seen, end) = decode(object.as_bytes(), &[cut, 7], 10_000);
            assert_eq!((seen.noted, end.map(|summary| summary.records)), (2, Ok(2)), "{record}");
        }
    }
    let unclear = [
        "{1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "{\"a\" 1}",
        "{\"a\":1 2}",
        "{\"a\":\"x\"\"y\"}",
        "{a:1}",
        "{\"a\":1\"x\"}",
        "{\"a\":{}{}}",
        "{\"a\":[]1}",
        "{\"a\":1{}}",
        "{\"a\"\"b\":1}",
        "{{}:1}",
        "{\"a\":\u{c}\"x\"}",
        "{\"a\":1:2}",
        "{\"a\",\"b\":1}",
        "{:1}",
        "{\"a\"::1}",
        &many(65),
    ];
    for record in unclear {
        let (seen, end) = decode(format!("[{record}]").as_bytes(), &[3, 64], 10_000);
        assert_eq!((seen.noted, end.map(|summary| summary.records)), (0, Ok(1)), "{record}");
    }
}

/// One gzip member as AWS writes it: no name, no time.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    member.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
    member.extend(crc32fast::hash(text).to_le_bytes());
    member.extend((text.len() as u32).to_le_bytes());
    member
}

/// Snippets that make texts which are nearly right.
fn snippet() -> impl Strategy<Value = String> {
    let fixed = [
        "{\"Records\":[",
        "]}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        " ",
        "\u{feff}",
        "null",
        "-1.5",
        "x",
        "{\"a\":1}",
        "{\"a\":1}\n",
        "{\"b\":\"\\\"}\"}",
        "\"Records\"",
        "\"\\u0052ecords\":[",
        "{\"c\":[[1],{\"d\":{}}]}",
        "{\"Records\":null}\n",
        "\"a\\\\\"",
        "{\"e\":\n1}\n",
        "\"k\":",
        "\u{0}",
    ];
    prop_oneof![
        8 => prop::sample::select(fixed.to_vec()).prop_map(str::to_string),
        2 => json(),
        1 => (120usize..140).prop_map(|n| "[".repeat(n)),
        1 => (120usize..140).prop_map(|n| "]".repeat(n)),
        1 => (0usize..150).prop_map(|n| format!("{{\"long\":\"{}\"}}", "y".repeat(n))),
    ]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        Just("true".to_string()),
        "-?[1-9][0-9]{0,3}(\\.[0-9]{1,3})?".prop_map(|number| number),
        "(\\\\[\\\\\"n]|\\\\u00[0-9a-f]{2}|[a-z{}\\[\\],: ]){0,12}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec!["a", "Records", "b\\\"", "\\\\", ""]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

/// What the splitter and the naive one make of a text: found records, and the end.
fn compare(text: &[u8], cuts: &[usize], max_record: usize) -> Result<(), TestCaseError> {
    let (found, naive_end) = naive_split::split(text, max_record, JSON_DEPTH);
    let expected: Vec<_> =
        found.iter().map(|(range, end)| (text[range.clone()].to_vec(), end.err())).collect();
    let (seen, end) = decode(text, cuts, max_record);
    let seen: Vec<_> = seen.found.into_iter().map(|(bytes, why)| (bytes, why.map(Broken::slug))).collect();
    prop_assert_eq!(seen, expected);
    let end = end.map(|_| ()).map_err(|error| match error {
        DecodeError::NotJson { offset, .. } => (error.slug(), offset as usize),
        other => (other.slug(), 0),
    });
    prop_assert_eq!(end, naive_end);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_in_any_pieces_is_split_as_the_naive_splitter_does(
        snippets in prop::collection::vec(snippet(), 0..24),
        cuts in prop::collection::vec(prop_oneof![1usize..6, 1usize..200, Just(usize::MAX)], 1..6),
        max_record in prop_oneof![Just(1000usize), 3usize..150],
    ) {
        compare(snippets.concat().as_bytes(), &cuts, max_record)?;
    }

    #[test]
    fn damaged_texts_are_split_as_the_naive_splitter_does(
        values in prop::collection::vec(json(), 1..6),
        form in 0u8..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            prop::sample::select(b"\"\\{}[],:\n x\xef".to_vec()), any::<u8>()]), 0..3),
        cuts in prop::collection::vec(1usize..100, 1..4),
    ) {
        let mut text = match form {
            0 => format!("{{\"v\":1,\"Records\":[{}],\"w\":{{}}}}", values.join(",")),
            1 => format!("[{}]", values.join(", ")),
            _ => values.join("\n"),
        }.into_bytes();
        for (place, byte) in damage {
            let place = place.index(text.len());
            text[place] = byte;
        }
        if text.first() != Some(&MAGIC[0]) {
            compare(&text, &cuts, 1000)?;
        }
    }
}

//! `[[source]]` with its rules.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::bucket::{bucket_and_folder, is_account, joined, key_prefix};
use super::endpoint::{self, Region};
use super::fault::{Report, quoted};
use super::files::ca_file;
use super::load::Env;
use super::pattern::{Rules, regex, set};
use super::proxy::proxies;
use super::queue::queue_url;
use super::table::{Read, Table, choice, flag, integer, string};
use super::units::{name, start};
use super::{Action, Attribution, Endpoint, Method, Queue, Rule, Source, Start};
use crate::aws::partition::Flavor;
use crate::limits;

/// `refresh_minutes` where it is not written: of a poll, and of the sweep beside a queue.
const POLL_MINUTES: u64 = 5;
const SWEEP_MINUTES: u64 = 60;

/// What to write where a queue is missing.
const QUEUE: &str = "the queue that S3 tells of new objects, as queue_url = \"https://sqs.REGION.amazonaws.com/ACCOUNT/NAME\"";

/// How this table is called where a key belongs to it and not to one inside it.
const OWN: &str = "[[source]]";

/// Reads one source. `None`: it has faults, and they are noted.
pub(super) fn source(mut table: Table<'_>, names: &mut BTreeSet<Box<str>>, env: Env<'_>) -> Option<Source> {
    let name = unique_name(&mut table, "source", names);
    let methods = [("poll", Method::Poll), ("sqs", Method::Sqs), ("sqs+sweep", Method::SqsSweep)];
    let method = table.or("method", Method::Poll, |value| choice(value, &methods));

    let bucket = table.required("bucket", "bucket = \"NAME\"", |value| bucket_and_folder(string(value)?));
    let key_prefix = table.or("key_prefix", "", |value| key_prefix(string(value)?));
    let prefix = bucket.and_then(|(_, folder)| {
        joined(folder, key_prefix).map_err(|text| table.fault("key_prefix", text)).ok()
    });
    let place = place(&mut table, bucket.map(|(name, _)| name));

    let region = place.as_ref().map_or("", |place| &*place.region);
    let fips = place.as_ref().is_some_and(|place| place.flavor.fips);
    let queue = table.get("queue_url", |value| queue_url(string(value)?, region, fips));
    check_queue(&table, method, queue.as_ref());
    if method.receives() && bucket.is_some_and(|(name, _)| name.ends_with("-s3alias")) {
        let text = "is an access point's alias, and S3's messages name the bucket itself: write that, or method = \"poll\"";
        table.fault("bucket", text.to_owned());
    }
    let delete_foreign = delete_foreign(&mut table, method);

    let often = if method.sweeps() { SWEEP_MINUTES } else { POLL_MINUTES };
    let minutes = table.or("refresh_minutes", often, |value| integer(value, 1, 1440));
    let day = Start::Ago(Duration::from_secs(86_400));
    let start = table.or("start", day, start);
    let accounts =
        table.list("accounts", usize::MAX, |value, span| account(value).map_err(|text| (span.start, text)));
    let mut unknown_regions = Vec::new();
    let regions = table.list("regions", usize::MAX, |value, span| {
        let (code, known) =
            string(value).and_then(endpoint::event_region).map_err(|text| (span.start, text))?;
        if !known {
            unknown_regions.push(code.clone());
        }
        Ok(code)
    });
    for code in unknown_regions {
        table.report().warn(format!(
            "{} regions: {} is not in this version's table of regions; it is collected if the bucket has it",
            table.place(),
            quoted(&code)
        ));
    }

    let unfiltered = table.or("unfiltered", false, flag);
    let report = table.report();
    let exclude =
        table.list("exclude", limits::REGEXES_PER_SOURCE, |value, span| exclusion(report, value, span));
    let exclude =
        set(exclude.into_iter(), limits::REGEX_SET_BYTES).map_err(|text| table.fault("exclude", text)).ok();
    let names = [
        ("short-name", Attribution::ShortName),
        ("fully-qualified", Attribution::FullyQualified),
        ("none", Attribution::None),
    ];
    let attribution = table.or("attribution", Attribution::ShortName, |value| choice(value, &names));
    let default_domain = table.or("default_domain", "", string);

    let request_payer =
        table.or("request_payer", false, |value| choice(value, &[("", false), ("requester", true)]));
    let proxies = proxies(&mut table, env);
    let ca_file = table.get("ca_file", |value| match string(value)? {
        "" => Ok(None),
        path => ca_file(path).map(Some),
    });

    let inner = place_of(&table, "credentials");
    if !table.has("credentials") {
        table.missing("credentials", "[source.credentials] with its method");
    }
    // Asked for before the inner tables are made, so that a key which slipped into them is known to belong here.
    table.value("rule");
    let credentials = table.table("credentials", inner, OWN);
    let code = place.as_ref().map(|place| &*place.region);
    let credentials = match table.has("credentials") {
        true => super::credentials::credentials(credentials, code, fips, env),
        false => None,
    };
    let rules = rules(&mut table);
    table.finish();

    let Place { region, flavor, endpoint } = place?;
    let (credentials, sts) = credentials?;
    Some(Source {
        name: name?,
        bucket: bucket?.0.into(),
        prefix: prefix?,
        region,
        method,
        queue_url: queue.flatten(),
        delete_foreign,
        refresh: Duration::from_secs(60 * minutes),
        start,
        accounts,
        regions,
        unfiltered,
        exclude: exclude?,
        rules: rules?,
        attribution,
        default_domain: default_domain.into(),
        endpoint,
        flavor,
        request_payer,
        ca_file: ca_file.flatten(),
        proxies: proxies?,
        credentials,
        sts,
    })
}

/// The name of a source or an output, which then names the table in faults.
pub(super) fn unique_name(
    table: &mut Table<'_>,
    key: &str,
    names: &mut BTreeSet<Box<str>>,
) -> Option<Box<str>> {
    let name = table.required("name", "name = \"NAME\", a word of your own", name)?;
    table.set_place(format!("[{key}.{name}]"));
    if !names.insert(name.clone()) {
        table.fault(
            "name",
            format!("{} is the name of an earlier {key}: names must be unique", quoted(&name)),
        );
        return None;
    }
    Some(name)
}

/// What goes with messages of a queue, and what does not.
fn check_queue(table: &Table<'_>, method: Method, queue: Option<&Option<Queue>>) {
    match (method.receives(), queue) {
        // One that is faulty is told of already.
        (true, None) if table.has("queue_url") => {}
        (true, None | Some(None)) => table.missing("queue_url", QUEUE),
        (false, Some(Some(_))) => table.report().warn(format!(
            "{} queue_url: nothing is received from it with method = \"poll\": write \"sqs+sweep\" or \"sqs\"",
            table.place()
        )),
        _ => {}
    }
    for key in ["start", "refresh_minutes"] {
        if !method.lists() && table.has(key) {
            table.report().warn(format!(
                "{} {key}: has no effect with method = \"sqs\", which lists nothing: what messages name is collected",
                table.place()
            ));
        }
    }
}

fn delete_foreign(table: &mut Table<'_>, method: Method) -> bool {
    let delete = table.or("delete_foreign", false, flag);
    if delete && !method.receives() {
        let text = "goes with method = \"sqs\" or \"sqs+sweep\" only: remove it";
        table.fault("delete_foreign", text.to_owned());
    }
    delete
}

struct Place {
    region: Box<str>,
    flavor: Flavor,
    endpoint: Endpoint,
}

/// Region and endpoint, which depend on each other and on the bucket's name.
fn place(table: &mut Table<'_>, bucket: Option<&str>) -> Option<Place> {
    let path_style = table.get("path_style", flag);
    let asked = Flavor { fips: table.or("fips", false, flag), dualstack: table.or("dualstack", false, flag) };
    let written = table.or("endpoint", "", string);
    let region =
        table.required("region", "the region of the bucket, such as region = \"us-west-2\"", |value| {
            endpoint::region(string(value)?, !written.is_empty())
        });
    let bucket = bucket.unwrap_or("");
    let flavor = match (written, &region) {
        ("", Some(Region { flavor: url, .. })) => {
            Flavor { fips: asked.fips || url.fips, dualstack: asked.dualstack || url.dualstack }
        }
        _ => asked,
    };
    let endpoint = match (written, &region) {
        ("", None) => None,
        ("", Some(region)) => endpoint::of_region(&region.code, flavor, bucket, path_style)
            .map_err(|(key, text)| table.fault(key, text))
            .ok(),
        (url, _) => {
            for (key, on) in [("fips", asked.fips), ("dualstack", asked.dualstack)] {
                if on {
                    let text =
                        "has no effect beside endpoint, which is used as it stands: remove one of the two";
                    table.fault(key, text.to_owned());
                }
            }
            endpoint::of_url(url, bucket, path_style).map_err(|text| table.fault("endpoint", text)).ok()
        }
    };
    let (region, endpoint) = (region?, endpoint?);
    if region.website {
        table.report().warn(format!(
            "{} region: a website endpoint cannot answer signed requests; {} is used instead",
            table.place(),
            endpoint.host
        ));
    }
    if endpoint.tls && !endpoint.path_style && bucket.contains('.') {
        table.report().warn(format!(
            "{} path_style = false: certificates seldom cover a bucket name with dots; remove it if connections fail",
            table.place()
        ));
    }
    Some(Place { region: region.code, flavor, endpoint })
}

fn account(value: &DeValue<'_>) -> Read<Box<str>> {
    match value {
        DeValue::Integer(_) => Err("must be in quotes: account ids may begin with 0".to_owned()),
        value => match string(value)? {
            text if is_account(text) => Ok(text.into()),
            text => Err(format!("{} is not an account id: write its twelve digits", quoted(text))),
        },
    }
}

fn exclusion<'v>(
    report: &Report<'_>,
    value: &'v DeValue<'_>,
    span: Range<usize>,
) -> Result<&'v str, (usize, String)> {
    let at = span.start;
    let pattern = string(value).map_err(|text| (at, text))?;
    let regex = regex(report, pattern, span)?;
    match regex.is_match(b"") && regex.is_match(b"{}") {
        false => Ok(pattern),
        true => Err((at, "matches the empty text, so it would drop every record".to_owned())),
    }
}

fn rules(table: &mut Table<'_>) -> Option<Rules> {
    let tables = table.tables("rule", "source.rule", OWN);
    if tables.len() > limits::REGEXES_PER_SOURCE {
        table.fault(
            "rule",
            format!("there are {} rules; at most {} are allowed", tables.len(), limits::REGEXES_PER_SOURCE),
        );
        return None;
    }
    // All of them are read before the first at fault ends this.
    let list: Option<Vec<Rule>> = tables.into_iter().map(rule).collect::<Vec<_>>().into_iter().collect();
    Rules::new(list?).map_err(|text| table.fault("rule", text)).ok()
}

fn rule(mut table: Table<'_>) -> Option<Rule> {
    let field =
        table.required("field", "a path into the record, such as field = \"userIdentity.type\"", field);
    let report = table.report();
    let regex = match table.value("regex") {
        Some(value) => string(value.get_ref())
            .map_err(|text| (value.span().start, text))
            .and_then(|pattern| regex(report, pattern, value.span()).map(|_| pattern.into()))
            .map_err(|(at, text)| table.fault_at(at, "regex", text))
            .ok(),
        None => {
            table.missing("regex", "what the field's text must match, such as regex = '^AWSService$'");
            None
        }
    };
    let actions = [("drop", Action::Drop), ("keep", Action::Keep)];
    let action = table.required("action", "action = \"drop\" or \"keep\"", |value| choice(value, &actions));
    table.finish();
    Some(Rule { field: field?, regex: regex?, action: action? })
}

fn field(value: &DeValue<'_>) -> Read<Box<str>> {
    let text = string(value)?;
    if text.len() > limits::FIELD_PATH_BYTES {
        return Err(format!("is too long: a path may have {} bytes", limits::FIELD_PATH_BYTES));
    }
    let bad = |part: &str| part.is_empty() || part.chars().any(|c| c.is_control() || c == '"' || c == '\\');
    match text.split('.').any(bad) {
        false => Ok(text.into()),
        true => Err(format!(
            "{} is not a path: write names with dots between, such as \"userIdentity.type\"",
            quoted(text)
        )),
    }
}

/// `[source.prod]` → `[source.prod.key]`
fn place_of(table: &Table<'_>, key: &str) -> String {
    format!("{}.{key}]", table.place().trim_end_matches(']'))
}

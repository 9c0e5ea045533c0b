//! `proxy` of a source or an output: its own, the environment's, or none.
//!
//! The text of a proxy is never repeated in a fault: it may hold a password.

use super::endpoint;
use super::load::Env;
use super::table::{Read, Table, string};
use crate::net::{NoProxy, Proxies, Proxy};

const RIGHT: &str = "write http://[USER:PASSWORD@]HOST:PORT, or \"none\" to connect directly";

/// Reads the key. `None`: it, or the environment that it leaves the choice to, has a fault, which is noted.
pub(super) fn proxies(table: &mut Table<'_>, env: Env<'_>) -> Option<Proxies> {
    let is_written = table.has("proxy");
    let written = table.get("proxy", |value| match string(value)? {
        "" => Ok(None),
        "none" => Ok(Some(Proxies::default())),
        url => proxy(url).map(|proxy| Some(Proxies::all(proxy))),
    });
    match written {
        Some(Some(proxies)) => Some(proxies),
        None if is_written => None,
        _ => environment(env).map_err(|text| table.fault("proxy", text)).ok(),
    }
}

/// `http://[USER:PASSWORD@]HOST[:PORT]`; `https://` for TLS to the proxy itself.
fn proxy(text: &str) -> Read<Proxy> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = scheme.to_ascii_lowercase();
    if scheme.starts_with("socks") {
        return Err(format!("names a SOCKS proxy, which this does not speak; {RIGHT}"));
    }
    let (userinfo, host) = match rest.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo), host),
        None => (None, rest),
    };
    if userinfo.is_some_and(|userinfo| userinfo.contains(['/', '?', '#', '@', ' '])) {
        return Err(
            "has a character in its user name or password that must be percent-encoded: / is %2F, ? is %3F, \
                    # is %23, @ is %40"
                .to_owned(),
        );
    }
    let url =
        endpoint::url(&format!("{scheme}://{host}")).map_err(|_| format!("is not a proxy's URL; {RIGHT}"))?;
    if url.path() != "/" || url.query().is_some() || host.contains(['?', '#']) {
        return Err(format!("must end after the proxy's host and port; {RIGHT}"));
    }
    Proxy::new(url, userinfo)
}

/// The variables that curl reads, lower case first. `HTTP_PROXY` is not read where a CGI server may have made it out
/// of a request's `Proxy` header (CVE-2016-5385).
fn environment(env: Env<'_>) -> Read<Proxies> {
    let first = |names: &[&'static str]| {
        let set = names.iter().filter_map(|name| Some((*name, env(name)?)));
        set.map(|(name, value)| (name, value.trim().to_owned())).find(|(_, value)| !value.is_empty())
    };
    let read = |names: &[&'static str]| match first(names) {
        Some((name, value)) => proxy(&value).map(Some).map_err(|text| format!("${name} {text}")),
        None => Ok(None),
    };
    let cgi = env("REQUEST_METHOD").is_some();
    let https = read(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?;
    let http = match cgi {
        true => read(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
        false => read(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
    };
    let except =
        first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| NoProxy::parse(&value)).unwrap_or_default();
    Ok(Proxies { https, http, except })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Read<Proxies> {
        environment(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn shown(proxies: &Proxies, target: &str) -> Option<String> {
        proxies.of(&target.parse().unwrap()).map(Proxy::to_string)
    }

    #[test]
    fn a_proxy_is_a_url_with_or_without_scheme_user_and_port() {
        for (text, shown, authorization) in [
            ("http://p.example:3128", "http://p.example:3128", None),
            ("http://p.example:3128/", "http://p.example:3128", None),
            ("p.example:3128", "http://p.example:3128", None),
            ("HTTPS://p.example", "https://p.example", None),
            ("http://u:p@p.example:3128", "http://p.example:3128", Some("Basic dTpw")),
            ("http://u:a%40b@[fd00::1]:3128", "http://[fd00::1]:3128", Some("Basic dTphQGI=")),
        ] {
            let proxy = proxy(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            assert_eq!(proxy.authorization().map(|secret| secret.reveal()), authorization, "{text}");
        }
        for wrong in [
            "socks5://p.example:1080",
            "ftp://p.example",
            "http://",
            "http://p.example:0",
            "http://p.example:99999",
            "http://p.example:3128/path",
            "http://p.example:3128?q",
            "http://u:hunter2/@p.example",
            "http://u:hunter2#@p.example",
            "http://u:hunter2@q@p.example",
            "http://u:hunter2@",
            "http://u:hunter2%0A@p.example",
            "http://p ex:3128",
        ] {
            let text = proxy(wrong).unwrap_err();
            assert!(!text.contains("hunter2") && text.len() > 20, "{wrong}: {text}");
        }
    }

    #[test]
    fn the_environment_is_read_as_curl_does() {
        let (tls, plain) = ("https://s3.amazonaws.com/", "http://s3.amazonaws.com/");
        for (variables, with_tls, without) in [
            (&[][..], None, None),
            (&[("HTTPS_PROXY", "http://a:1")], Some("http://a:1"), None),
            (&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:1")], Some("http://b:1"), None),
            (&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", " ")], Some("http://a:1"), None),
            (&[("HTTP_PROXY", "a:1")], None, Some("http://a:1")),
            (&[("HTTP_PROXY", "a:1"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("http_proxy", "a:1"), ("REQUEST_METHOD", "GET")], None, Some("http://a:1")),
            (&[("ALL_PROXY", "a:1")], Some("http://a:1"), Some("http://a:1")),
            (&[("all_proxy", "a:1"), ("https_proxy", "b:1")], Some("http://b:1"), Some("http://a:1")),
            (&[("ALL_PROXY", "a:1"), ("NO_PROXY", "amazonaws.com")], None, None),
            (
                &[("ALL_PROXY", "a:1"), ("NO_PROXY", "*"), ("no_proxy", "x")],
                Some("http://a:1"),
                Some("http://a:1"),
            ),
        ] {
            let proxies = from(variables).unwrap();
            assert_eq!(shown(&proxies, tls).as_deref(), with_tls, "{variables:?}");
            assert_eq!(shown(&proxies, plain).as_deref(), without, "{variables:?}");
        }
        let fault = from(&[("ALL_PROXY", "socks5://u:hunter2@p:1080")]).unwrap_err();
        assert!(fault.starts_with("$ALL_PROXY names a SOCKS proxy") && !fault.contains("hunter2"), "{fault}");
    }
}

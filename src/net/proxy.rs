//! Which proxy a request goes through. A core: it knows addresses by their text and looks nothing up.
//!
//! What holds: loopback, link-local and instance-metadata addresses are never asked for through a proxy, whatever
//! the configuration and the environment say (boto/botocore#2644: credentials of the instance went to the proxy).

use core::net::{IpAddr, Ipv6Addr};
use std::fmt;

use http::Uri;
use http::uri::Scheme;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::config::Secret;

/// A forward proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<Secret>,
}

impl Proxy {
    /// A proxy at `uri` (`http://HOST[:PORT]`, or `https://` for TLS to the proxy itself), with the
    /// `USER[:PASSWORD]` of a URL if it wants one.
    ///
    /// # Errors
    /// A sentence that says why the user or the password cannot be sent; never holds them. Source: RFC 7617, section 2.
    pub fn new(uri: Uri, userinfo: Option<&str>) -> Result<Proxy, String> {
        let authorization = userinfo.map(basic).transpose()?;
        Ok(Proxy { uri, authorization })
    }

    /// Where it is, without user and password.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The value of `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }
}

/// What is percent-encoded in a URL goes into the header as it is.
fn basic(userinfo: &str) -> Result<Secret, String> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let user: Zeroizing<Vec<u8>> = Zeroizing::new(percent_decode_str(user).collect());
    let password: Zeroizing<Vec<u8>> = Zeroizing::new(percent_decode_str(password).collect());
    if user.contains(&b':') {
        return Err("has a colon in the proxy's user name, which basic authentication cannot send".to_owned());
    }
    if user.iter().chain(&*password).any(u8::is_ascii_control) {
        return Err("has a control character in the proxy's user name or password".to_owned());
    }
    let mut both = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    both.extend_from_slice(&user);
    both.push(b':');
    both.extend_from_slice(&password);
    let encoded = Zeroizing::new(base64_simd::STANDARD.encode_to_string(&both[..]));
    Ok(Secret::new(format!("Basic {}", *encoded)))
}

/// Which proxy for which host. The default is none for any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https://` targets.
    pub https: Option<Proxy>,
    /// For `http://` targets.
    pub http: Option<Proxy>,
    /// What is reached directly all the same.
    pub except: NoProxy,
}

impl Proxies {
    /// One proxy for everything that may be proxied.
    pub fn all(proxy: Proxy) -> Proxies {
        Proxies { https: Some(proxy.clone()), http: Some(proxy), except: NoProxy::default() }
    }

    /// The proxy for an absolute URI; `None`: it is reached directly.
    pub fn of(&self, target: &Uri) -> Option<&Proxy> {
        let tls = target.scheme() == Some(&Scheme::HTTPS);
        let proxy = if tls { &self.https } else { &self.http }.as_ref()?;
        let host = Host::of(target.host()?);
        let port = target.port_u16().unwrap_or(if tls { 443 } else { 80 });
        (!host.is_local() && !self.except.covers(&host, port)).then_some(proxy)
    }
}

/// The hosts of a `NO_PROXY` variable. There is no standard; this is what curl and Python make of it.
///
/// | entry | covers |
/// |---|---|
/// | `example.com`, `.example.com`, `*.example.com` | that name and every name that ends with it after a dot |
/// | `10.1.2.3`, `fd00::1`, `10.0.0.0/8`, `fd00::/8` | addresses (that stand in the URL; no name is looked up) |
/// | any of these with `:443` (`[fd00::1]:443`) | the same, on that port only |
/// | `*` | everything |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// A name without dots at its ends, and those below it.
    Domain(Box<str>),
    /// The addresses that share this many leading bits with this one.
    Network(IpAddr, u8),
}

impl NoProxy {
    /// Reads entries between commas or white space. An entry that means nothing covers nothing.
    pub fn parse(text: &str) -> NoProxy {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        NoProxy(entries.filter_map(Entry::parse).collect())
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        self.0.iter().any(|entry| entry.covers(host, port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Entry> {
        if let Some(hosts) = Hosts::parse(text) {
            return Some(Entry { hosts, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Entry { hosts: Hosts::parse(host)?, port: Some(port.parse().ok()?) })
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        self.port.is_none_or(|only| only == port) && self.hosts.covers(host)
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Hosts> {
        if text == "*" {
            return Some(Hosts::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let (address, bits): (IpAddr, u8) = (unbracketed(address).parse().ok()?, bits.parse().ok()?);
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Hosts::Network(address, bits));
        }
        if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
            return Some(Hosts::Network(
                address.to_canonical(),
                if address.to_canonical().is_ipv4() { 32 } else { 128 },
            ));
        }
        let name = text.strip_prefix('*').unwrap_or(text).trim_matches('.').to_ascii_lowercase();
        (!name.is_empty() && !name.contains([':', '[', ']', '*'])).then(|| Hosts::Domain(name.into()))
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Hosts::All, _) => true,
            (Hosts::Domain(domain), Host::Name(name)) => is_below(name, domain),
            (Hosts::Network(network, bits), Host::Address(address)) => share(*network, *address, *bits),
            _ => false,
        }
    }
}

/// The host of a URL.
enum Host {
    /// In lower case, without a dot at its end.
    Name(Box<str>),
    /// An IPv4 address inside an IPv6 one is the IPv4 address.
    Address(IpAddr),
}

impl Host {
    fn of(text: &str) -> Host {
        match unbracketed(text).parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().into()),
        }
    }

    /// This machine, its link, and the metadata services of EC2, ECS and EKS. Sources: RFC 6761 (localhost); EC2 User
    /// Guide, "Instance metadata" (169.254.169.254, fd00:ec2::254); ECS Developer Guide, "Task IAM role"
    /// (169.254.170.2); EKS User Guide, "Pod Identity" (169.254.170.23, fd00:ec2::23).
    fn is_local(&self) -> bool {
        const EC2: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0));
        match self {
            Host::Name(name) => is_below(name, "localhost"),
            Host::Address(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
            Host::Address(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address.is_unicast_link_local()
                    || share(EC2, IpAddr::V6(*address), 32)
            }
        }
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Whether two addresses of one family share their first `bits` bits, of which the family has enough.
fn share(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let (a, b) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits()),
        _ => return false,
    };
    (a ^ b).leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(uri: &'static str) -> Proxy {
        Proxy::new(Uri::from_static(uri), None).unwrap()
    }

    fn with(no_proxy: &str) -> Proxies {
        Proxies {
            https: Some(proxy("http://tls.example:3128")),
            http: Some(proxy("http://plain.example:3128")),
            except: NoProxy::parse(no_proxy),
        }
    }

    fn is_proxied(proxies: &Proxies, target: &str) -> bool {
        proxies.of(&target.parse().unwrap()).is_some()
    }

    #[test]
    fn the_scheme_of_the_target_picks_the_proxy() {
        let proxies = with("");
        for (target, proxy) in [
            ("https://s3.us-west-2.amazonaws.com/k", "http://tls.example:3128"),
            ("http://s3.us-west-2.amazonaws.com/k", "http://plain.example:3128"),
        ] {
            assert_eq!(proxies.of(&target.parse().unwrap()).unwrap().to_string(), proxy);
        }
        assert!(!is_proxied(&Proxies::default(), "https://s3.amazonaws.com/"));
    }

    /// boto/botocore#2644
    #[test]
    fn this_machine_its_link_and_metadata_services_are_never_proxied() {
        let all = Proxies::all(proxy("http://p.example:3128"));
        for host in [
            "127.0.0.1",
            "127.8.9.10",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "s3.localhost",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "[::ffff:169.254.169.254]",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
        ] {
            for target in [format!("http://{host}/latest/meta-data/"), format!("https://{host}:8443/")] {
                assert!(!is_proxied(&all, &target), "{target}");
            }
        }
        for host in [
            "169.253.0.1",
            "128.0.0.1",
            "[fd00:ec3::254]",
            "[fec0::1]",
            "notlocalhost",
            "localhost.example.com",
        ] {
            assert!(is_proxied(&all, &format!("http://{host}/")), "{host}");
        }
    }

    /// Entry, target, whether it is reached directly.
    #[test]
    fn no_proxy_in_all_its_spellings() {
        for (entries, target, direct) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://a.b.Example.COM./", true),
            ("example.com", "https://notexample.com/", false),
            ("example.com", "https://example.com.evil.org/", false),
            (".example.com", "https://a.example.com/", true),
            (".example.com", "https://example.com/", true),
            ("*.example.com", "https://a.example.com/", true),
            ("EXAMPLE.com.", "https://a.example.com/", true),
            ("example.com:443", "https://example.com/", true),
            ("example.com:443", "https://example.com:8443/", false),
            ("example.com:80", "http://example.com/", true),
            ("example.com:8443", "https://a.example.com:8443/", true),
            ("*", "https://anything.example/", true),
            ("x, *", "https://anything.example/", true),
            ("a.com b.com\tc.com", "https://b.com/", true),
            (" a.com ,, b.com ,", "https://b.com/", true),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.34/", false),
            ("10.1.2.3", "https://[::ffff:10.1.2.3]/", true),
            ("10.1.2.3:443", "https://10.1.2.3/", true),
            ("10.1.2.3:444", "https://10.1.2.3/", false),
            ("10.0.0.0/8", "https://10.200.3.4/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.9.9.9/8", "https://10.1.1.1/", true),
            ("0.0.0.0/0", "https://8.8.8.8/", true),
            ("0.0.0.0/0", "https://[2001:db8::1]/", false),
            ("0.0.0.0/0", "https://example.com/", false),
            ("10.0.0.0/33", "https://10.0.0.0/", false),
            ("10.0.0.0/8:443", "https://10.0.0.1/", true),
            ("10.0.0.0/8:444", "https://10.0.0.1/", false),
            ("10", "https://10.0.0.1/", false),
            ("0.1", "https://10.0.0.1/", false),
            ("2001:db8::1", "https://[2001:db8::1]/", true),
            ("[2001:db8::1]", "https://[2001:db8::1]/", true),
            ("[2001:db8::1]:443", "https://[2001:db8::1]/", true),
            ("[2001:db8::1]:444", "https://[2001:db8::1]/", false),
            ("2001:db8::/32", "https://[2001:db8:ffff::1]/", true),
            ("2001:db8::/32", "https://[2001:db9::1]/", false),
            ("", "https://example.com/", false),
            (".", "https://example.com/", false),
            ("example.com:", "https://example.com/", false),
            ("https://example.com", "https://example.com/", false),
        ] {
            assert_eq!(!is_proxied(&with(entries), target), direct, "{entries:?} {target}");
        }
    }

    #[test]
    fn basic_authorization_is_that_of_the_rfc() {
        let value = |userinfo| basic(userinfo).map(|secret| secret.reveal().to_owned());
        assert_eq!(value("Aladdin:open%20sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(value("test:123%C2%A3").unwrap(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(value("user").unwrap(), "Basic dXNlcjo=");
        assert_eq!(value("u:a:b%40c").unwrap(), "Basic dTphOmJAYw==");
        for wrong in ["a%3Ab:c", "a:b%0D%0AX-Evil:%20y", "a%00:b"] {
            let text = value(wrong).unwrap_err();
            assert!(!text.contains("Evil"), "{text}");
        }
    }

    #[test]
    fn user_and_password_are_not_shown() {
        let proxy = Proxy::new(Uri::from_static("http://p.example:3128"), Some("alice:hunter2")).unwrap();
        let shown = format!("{proxy} {proxy:?} {:?}", Proxies::all(proxy.clone()));
        let encoded = proxy.authorization().unwrap().reveal().trim_start_matches("Basic ");
        assert!(
            !shown.contains("alice") && !shown.contains("hunter2") && !shown.contains(encoded),
            "{shown}"
        );
    }

    /// A network test that counts bit by bit.
    fn naive(network: IpAddr, address: IpAddr, bits: u8) -> bool {
        let text = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().iter().map(|byte| format!("{byte:08b}")).collect::<String>(),
            IpAddr::V6(v6) => v6.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
        };
        network.is_ipv4() == address.is_ipv4()
            && text(network)[..usize::from(bits)] == text(address)[..usize::from(bits)]
    }

    proptest! {
        #[test]
        fn networks_are_compared_bit_by_bit(
            network: [u8; 16], flip in 0usize..128, bits in 0u8..=128, v4: bool,
        ) {
            let mut address = network;
            address[flip / 8] ^= 0x80 >> (flip % 8);
            let ip = |octets: [u8; 16]| match v4 {
                true => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
                false => IpAddr::from(octets),
            };
            let bits = if v4 { bits.min(32) } else { bits };
            let (network, address) = (ip(network), ip(address));
            prop_assert_eq!(share(network, address, bits), naive(network, address, bits));
            // Through the text, unless it is an address that is another one in disguise.
            if address.to_canonical() == address {
                let host = Host::of(&if v4 { address.to_string() } else { format!("[{address}]") });
                let entry = NoProxy::parse(&format!("{network}/{bits}"));
                prop_assert_eq!(entry.covers(&host, 443), naive(network, address, bits));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}", host in "[a-z0-9.:\\[\\]-]{1,20}") {
            let _ = NoProxy::parse(&text).covers(&Host::of(&host), 443);
        }
    }
}

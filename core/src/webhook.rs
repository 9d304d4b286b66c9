//! Webhooks: what they are called for, when a failed call is tried again, and which addresses may be called.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::task::WakeReason;

/// Tries of one delivery, in all.
pub const MAX_TRIES: u32 = 12;
/// Wait after the first try that failed; each further wait is three times as long.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const WAIT_FACTOR: u32 = 3;
/// Longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(6 * 60 * 60);
/// By how much of itself a wait is varied, either way.
const JITTER: f64 = 0.2;

/// What a webhook is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    /// A task has ended.
    Terminal,
    /// A task asks a question.
    Question,
    /// A task sent its owner a message.
    Message,
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Terminal, Self::Question, Self::Message];

    /// Its word in bodies and headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Question => "question",
            Self::Message => "message",
        }
    }

    /// Its bit in a filter.
    #[must_use]
    pub fn bit(self) -> i16 {
        match self {
            Self::Terminal => 1,
            Self::Question => 2,
            Self::Message => 4,
        }
    }
}

impl From<WakeReason> for WebhookEvent {
    fn from(reason: WakeReason) -> Self {
        match reason {
            WakeReason::Terminal => Self::Terminal,
            WakeReason::Question => Self::Question,
            WakeReason::Message => Self::Message,
        }
    }
}

/// How long to wait after so many failed tries; none: no further try. `luck` from 0 to 1 varies the wait.
#[must_use]
pub fn retry_wait(failed_tries: u32, luck: f64) -> Option<Duration> {
    if failed_tries >= MAX_TRIES {
        return None;
    }
    let factor = WAIT_FACTOR.saturating_pow(failed_tries.saturating_sub(1));
    let wait = FIRST_WAIT.saturating_mul(factor).min(MAX_WAIT);
    Some(wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * luck.clamp(0.0, 1.0)))
}

/// Whether an address is one of the public internet: not private, loopback, link-local, shared by a carrier, multicast,
/// reserved or for documentation, nor one of these in the clothes of IPv6.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, _, _)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // protocol assignments (Teredo among them), documentation
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => false,
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_over_about_a_day() {
        let waits: Vec<Duration> = (1..MAX_TRIES)
            .map(|failed| retry_wait(failed, 0.5).expect("a try is left"))
            .collect();
        assert_eq!(waits[..3], [3, 9, 27].map(Duration::from_secs));
        assert!(waits.is_sorted());
        assert_eq!(waits[waits.len() - 1], MAX_WAIT);
        let hours = waits.iter().sum::<Duration>().as_secs() / 3_600;
        assert!((18..30).contains(&hours), "{hours} h");
        assert_eq!(retry_wait(MAX_TRIES, 0.5), None);
        assert_eq!(retry_wait(u32::MAX, 0.5), None);
    }

    #[test]
    fn waits_are_varied_by_a_fifth() {
        assert_eq!(retry_wait(1, 0.0), Some(Duration::from_millis(2_400)));
        assert_eq!(retry_wait(1, 1.0), Some(Duration::from_millis(3_600)));
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.254",
            "2606:4700:4700::1111",
            "2a00::1",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:0101:0101::1",
        ] {
            assert!(is_public(public.parse().expect(public)), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:1.1.1.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:0a00:1::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(other.parse().expect(other)), "{other}");
        }
    }

    #[test]
    fn each_event_has_a_bit_of_its_own() {
        let all = WebhookEvent::ALL.iter().fold(0, |bits, event| {
            assert_eq!(bits & event.bit(), 0);
            bits | event.bit()
        });
        assert_eq!(all, 7);
    }
}

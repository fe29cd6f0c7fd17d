//! Which severities of which facilities are meant, in the language of syslog.conf(5) and of our conditions.

use crate::message::{FACILITIES, SEVERITIES};

/// One bit for each severity of each facility.
pub(super) type Bits = [u8; FACILITIES.len()];

/// The facilities that have the same severities, in the order of their first one.
fn groups(bits: &Bits) -> Vec<(u8, Vec<&'static str>)> {
    let mut groups: Vec<(u8, Vec<&'static str>)> = Vec::new();
    for (facility, bits) in bits.iter().enumerate().filter(|(_, bits)| **bits != 0) {
        match groups.iter_mut().find(|(other, _)| other == bits) {
            Some((_, names)) => names.push(FACILITIES[facility]),
            None => groups.push((*bits, vec![FACILITIES[facility]])),
        }
    }
    groups
}

/// The language of syslog.conf(5).
pub(super) fn selector(bits: &Bits) -> String {
    if bits.iter().all(|bits| *bits == 0) {
        return "*.none".to_owned();
    }
    // What most facilities have, and the others behind it.
    let groups = groups(bits);
    let (most, names) =
        groups.iter().max_by_key(|(_, names)| names.len()).map(|(bits, names)| (*bits, names.len())).unwrap_or_default();
    let mut parts = Vec::new();
    if names > FACILITIES.len() / 2 {
        parts.extend(severities(most).into_iter().map(|severity| format!("*.{severity}")));
        let excluded: Vec<_> = bits.iter().enumerate().filter(|(_, bits)| **bits != most).map(|(i, _)| FACILITIES[i]).collect();
        if !excluded.is_empty() {
            parts.push(format!("{}.none", excluded.join(",")));
        }
        parts.extend(groups.iter().filter(|(bits, _)| *bits != most).flat_map(part));
    } else {
        parts.extend(groups.iter().flat_map(part));
    }
    parts.join(";")
}

fn part(group: &(u8, Vec<&'static str>)) -> Vec<String> {
    severities(group.0).into_iter().map(|severity| format!("{}.{severity}", group.1.join(","))).collect()
}

/// `*`, `name` (it and worse), or each by itself.
fn severities(bits: u8) -> Vec<String> {
    match bits {
        0xFF => vec!["*".to_owned()],
        bits if bits & (bits.wrapping_add(1)) == 0 => vec![SEVERITIES[bits.trailing_ones() as usize - 1].to_owned()],
        bits => (0..8).filter(|i| bits & (1 << i) != 0).map(|i| format!("={}", SEVERITIES[i])).collect(),
    }
}

/// As a part of a condition.
pub(super) fn selected(bits: &Bits, inside: bool) -> String {
    let groups = groups(bits);
    let parts: Vec<_> = groups
        .iter()
        .map(|(bits, names)| {
            let facility = match names.len() {
                24 => None,
                1 => Some(format!("facility == {}", names[0])),
                _ => Some(format!("facility in [{}]", names.join(", "))),
            };
            let severity = match severities(*bits).as_slice() {
                [all] if all == "*" => None,
                [one] if one.starts_with('=') => Some(format!("severity == {}", &one[1..])),
                [worst] => Some(format!("severity <= {worst}")),
                several => {
                    Some(format!("severity in [{}]", several.iter().map(|name| &name[1..]).collect::<Vec<_>>().join(", ")))
                }
            };
            let both: Vec<_> = facility.into_iter().chain(severity).collect();
            if both.len() == 2 && (groups.len() > 1 || inside) { format!("({})", both.join(" and ")) } else { both.join(" and ") }
        })
        .collect();
    match parts.len() {
        0 => "severity < emerg".to_owned(),
        1 => parts.into_iter().next().unwrap_or_default(),
        _ if inside => format!("({})", parts.join(" or ")),
        _ => parts.join(" or "),
    }
}

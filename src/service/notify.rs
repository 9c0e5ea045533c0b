//! What the service manager is told (sd_notify). Without `NOTIFY_SOCKET` every call does nothing.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

/// The service does its work.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(&one_line(text))]);
}

/// The service is going down.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The configuration is being read again; [`ready`] ends this. Source: systemd.service(5), `Type=notify-reload`.
pub fn reloading() {
    match monotonic_usec() {
        Ok(now) => notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]),
        Err(error) => log::warn!("the service manager could not be told of the reload: {error}"),
    }
}

/// All stages come on.
pub fn pet() {
    notify(&[NotifyState::Watchdog]);
}

/// The start (or the end) takes longer: the manager waits so much more from now on.
pub fn extend(wait: Duration) {
    notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(wait.as_micros()).unwrap_or(u32::MAX))]);
}

/// `CLOCK_MONOTONIC` in microseconds. Wide before it is multiplied: seconds have 32 bits on 32-bit machines.
fn monotonic_usec() -> nix::Result<i128> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000)
}

/// A manager that cannot be reached is no reason to stop collecting.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager could not be notified: {error}");
    }
}

/// Each line of the message is a variable of its own: text must not begin another one.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_reload_is_that_of_the_monotonic_clock() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split_once(' ').unwrap().0.parse().unwrap();
        // Time in suspend is in one and not in the other.
        assert!(monotonic_usec().unwrap() as f64 / 1e6 <= uptime + 1.0);
        assert!(monotonic_usec().unwrap() > 0);
    }

    #[test]
    fn a_status_cannot_set_another_variable() {
        assert_eq!(one_line("3 of 4\nREADY=1\r\0"), "3 of 4 READY=1  ");
    }
}

//! What the service manager is told (sd_notify). Without `NOTIFY_SOCKET` every call does nothing.

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
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("the service manager could not be told of the reload: {error}"),
    }
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
    fn a_status_cannot_set_another_variable() {
        assert_eq!(one_line("3 of 4\nREADY=1\r\0"), "3 of 4 READY=1  ");
    }
}

//! `penstock unit`: what the unit that ships lacks for a configuration.
//!
//! The unit allows what the configuration that ships needs, and no more. Whoever writes elsewhere, or reads this host's own
//! messages, gets the drop-in that is needed instead of finding out from refused system calls.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{ConfigFile, Failure, planned};
use crate::config::{Address, Plan};
use crate::import::JOURNALD;
use crate::{input, output};

/// Where systemd lets the unit write, and the server's user may.
const OWN: [&str; 3] = ["/run/penstock", "/var/lib/penstock", "/var/log/penstock"];

/// What is lacking.
#[derive(Debug, Default)]
struct Needs {
    /// Folders that are written below.
    folders: BTreeSet<PathBuf>,
    groups: BTreeSet<String>,
    devices: BTreeSet<String>,
    /// Commands for root, in their order.
    commands: Vec<String>,
    remarks: Vec<String>,
    is_syslog: bool,
    reads_kernel: bool,
    sees_processes: bool,
}

pub(super) fn main(config: &ConfigFile) -> Result<(), Failure> {
    let (plan, _) = planned(&config.config)?;
    print!("{}", Needs::of(&plan).drop_in(&config.config));
    Ok(())
}

impl Needs {
    fn of(plan: &Plan) -> Self {
        let mut needs = Self::default();
        needs.folder(&plan.server.state_dir);
        plan.inputs.iter().for_each(|input| needs.input(input));
        plan.outputs.iter().for_each(|output| needs.output(output));
        needs
    }

    fn input(&mut self, input: &input::Plan) {
        match (input.kind, &input.address) {
            ("kmsg", _) => self.reads_kernel = true,
            ("journal", _) => drop(self.groups.insert("systemd-journal".to_owned())),
            ("unix", Address::Path(path)) => {
                self.sees_processes = true;
                if path == Path::new(JOURNALD) {
                    self.is_syslog = true;
                } else if let Some(folder) = path.parent() {
                    self.folder(folder);
                }
            }
            ("file", _) => self
                .remarks
                .push(format!("The user or a group of it (SupplementaryGroups=) must be able to read `{}`.", input.name)),
            _ => {}
        }
    }

    fn output(&mut self, output: &output::Plan) {
        let place = Path::new(&output.place);
        match output.kind {
            "file" => {
                let base = Path::new(&output.form);
                if base.is_absolute() && !is_own(base) {
                    self.folders.insert(base.to_owned());
                    self.file(place, base, output);
                }
                self.groups.extend(output.group.clone());
            }
            "pipe" if place.starts_with("/dev") => drop(self.devices.insert(format!("{} rw", place.display()))),
            "pipe" => {
                let shown = quoted(place);
                self.folder(place.parent().unwrap_or(place));
                self.commands.push(format!("[ -p {shown} ] || mkfifo -m 620 {shown}; chgrp penstock {shown}; chmod g+w {shown}"));
            }
            "users" => {
                self.groups.insert("tty".to_owned());
                self.devices.extend(["char-pts rw", "char-tty rw", "char-ttyS rw"].map(str::to_owned));
            }
            "program" => self.remarks.push(format!("The program of `{}` runs within the unit's limits.", output.name)),
            _ => {}
        }
    }

    /// One file is made for the server; where there are many it makes them, in a folder that it may write to.
    fn file(&mut self, place: &Path, base: &Path, output: &output::Plan) {
        let command = if output.address.as_ref().is_some_and(|path| path.is_constant()) {
            let (path, group) = (quoted(place), output.group.as_deref().unwrap_or("penstock"));
            format!("[ -e {path} ] || install -m 640 /dev/null {path}; chown penstock:{group} {path}")
        } else {
            let path = quoted(base);
            format!("install -d {path}; chgrp penstock {path}; chmod g+w {path}")
        };
        if !self.commands.contains(&command) {
            self.commands.push(command);
        }
    }

    fn folder(&mut self, folder: &Path) {
        if !is_own(folder) && self.folders.insert(folder.to_owned()) {
            let path = quoted(folder);
            self.commands.push(format!("[ -d {path} ] || install -d -o penstock -g penstock -m 750 {path}"));
        }
    }

    fn drop_in(&self, config: &Path) -> String {
        let mut service = Vec::new();
        service.extend(self.folders.iter().map(|folder| format!("ReadWritePaths={}", escaped(folder))));
        if !self.groups.is_empty() {
            service.push(format!("SupplementaryGroups={}", Vec::from_iter(self.groups.iter().map(String::as_str)).join(" ")));
        }
        let mut devices = self.devices.clone();
        if self.reads_kernel {
            service.extend(
                ["AmbientCapabilities=CAP_SYSLOG", "CapabilityBoundingSet=CAP_SYSLOG", "ProtectKernelLogs=no"].map(str::to_owned),
            );
            // By the number of the boot it is known what of the kernel's messages has been read.
            service.push("ProcSubset=all".to_owned());
            devices.insert("/dev/kmsg r".to_owned());
        }
        if self.sees_processes {
            // Which program has sent a message.
            service.push("ProtectProc=default".to_owned());
        }
        if !devices.is_empty() {
            service.extend(["PrivateDevices=no", "DevicePolicy=closed"].map(str::to_owned));
            service.extend(devices.iter().map(|device| format!("DeviceAllow={device}")));
        }
        let mut text = format!(
            "# What penstock.service lacks for {}: /etc/systemd/system/penstock.service.d/needs.conf\n",
            config.display()
        );
        if service.is_empty() && !self.is_syslog {
            text += "# Nothing.\n";
        }
        self.remarks.iter().for_each(|remark| text += &format!("# {remark}\n"));
        if !self.commands.is_empty() {
            text += "# Once, as root (sed -n 's/^#\\$ //p' needs.conf | sh):\n";
            self.commands.iter().for_each(|command| text += &format!("#$ {command}\n"));
        }
        if self.is_syslog {
            text += "[Unit]\nRequires=syslog.socket\n";
        }
        if !service.is_empty() {
            text += &format!("[Service]\n{}\n", service.join("\n"));
        }
        if self.is_syslog {
            text += "[Install]\nAlias=syslog.service\n";
        }
        text
    }
}

fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own))
}

/// For systemd (systemd.syntax(7)).
fn escaped(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// For a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if is_plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

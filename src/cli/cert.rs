//! `penstock cert`: a small certificate authority, and certificates of it for servers and clients (RFC 5425).
//!
//! It is for those who have no authority of their own. ECDSA with P-256 because every TLS library in use takes it.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Exit, Failure};
use crate::net::peers::fingerprint;
use crate::sys::reason;

/// A clock that is a little behind takes the certificate nevertheless.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);
/// `ub-common-name` (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// Makes certificates, and shows their fingerprints
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes an authority: ca.pem and ca.key
    Ca(Authority),
    /// Makes a certificate for a client: client.pem and client.key
    Client(Leaf),
    /// Prints the fingerprint of the first certificate of each file
    Fingerprint {
        /// PEM
        #[arg(required = true)]
        file: Vec<PathBuf>,
    },
    /// Makes a certificate for a server or relay: server.pem and server.key
    Server(Leaf),
}

#[derive(Debug, Args)]
struct Authority {
    /// What it is called
    #[arg(long, default_value = "penstock CA")]
    name: String,
    /// How long it is valid
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Leaf {
    /// DNS names and IP addresses; the first is the subject's common name too
    #[arg(required = true)]
    name: Vec<String>,
    /// Where ca.pem and ca.key are [default: the folder of --out]
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// How long it is valid; never longer than the authority
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// What the files are called, without .pem and .key [default: client or server]
    #[arg(long, value_name = "NAME")]
    basename: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The folder of the files; made where it is missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Overwrites files
    #[arg(long)]
    force: bool,
}

/// Who signs.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// As it stands in the file; a server shows it after its own certificate.
    pem: String,
    certificate: CertificateDer<'static>,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let said = run(&arguments.command)?;
    io::stdout().write_all(said.as_bytes()).map_err(|error| Failure::new(Exit::System, format!("stdout: {}", reason(&error))))
}

/// What is to be said when all is done.
fn run(command: &Command) -> Result<String, Failure> {
    match command {
        Command::Ca(authority) => authority.make(),
        Command::Client(leaf) => leaf.make("client", &[ExtendedKeyUsagePurpose::ClientAuth]),
        Command::Fingerprint { file } => file.iter().map(|file| fingerprint_line(file)).collect(),
        // A relay is the server of some and the client of others, with one certificate.
        Command::Server(leaf) => leaf.make("server", &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]),
    }
}

impl Authority {
    fn make(&self) -> Result<String, Failure> {
        let mut params = params(&self.name, self.days)?;
        // It signs those who serve and send, and no further authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(unmade)?;
        self.place.write("ca", &certificate, &certificate.pem(), &key)
    }
}

impl Leaf {
    fn make(&self, kind: &str, usages: &[ExtendedKeyUsagePurpose]) -> Result<String, Failure> {
        let basename = self.basename.as_deref().unwrap_or(kind);
        if basename.is_empty() || basename == "ca" || basename.contains('/') {
            return Err(wrong(format!("`{basename}` cannot be the name of the files")));
        }
        let params = self.params(usages)?;
        let signer = Signer::read(self.ca_dir.as_deref().unwrap_or(&self.place.out))?;
        let params = signer.bounded(params)?;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &signer.issuer).map_err(unmade)?;
        self.place.write(basename, &certificate, &(certificate.pem() + &signer.pem), &key)
    }

    fn params(&self, usages: &[ExtendedKeyUsagePurpose]) -> Result<CertificateParams, Failure> {
        let first = self.name.first().expect("clap requires one");
        let mut params = params(first, self.days)?;
        params.subject_alt_names = self.name.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl Place {
    /// Both files or, where one is there already, none.
    fn write(&self, basename: &str, certificate: &Certificate, pem: &str, key: &KeyPair) -> Result<String, Failure> {
        let path = |extension: &str| self.out.join(format!("{basename}.{extension}"));
        let (pem_path, key_path) = (path("pem"), path("key"));
        let there = [&key_path, &pem_path].into_iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(there) = there.filter(|_| !self.force) {
            return Err(Failure::new(Exit::File, format!("{} exists: `--force` overwrites it", there.display())));
        }
        fs::create_dir_all(&self.out).map_err(|error| unwritten(&self.out, &error))?;
        create(&key_path, &key.serialize_pem(), 0o600).map_err(|error| unwritten(&key_path, &error))?;
        create(&pem_path, pem, 0o644).map_err(|error| unwritten(&pem_path, &error))?;
        Ok(format!("{}\n{}\n{}\n", pem_path.display(), key_path.display(), fingerprint(certificate.der())))
    }
}

impl Signer {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let (pem_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        let pem = contents(&pem_path)?;
        let certificate = first_certificate(&pem).ok_or_else(|| wrong(format!("{} holds no certificate", pem_path.display())))?;
        let key = KeyPair::from_pem(&contents(&key_path)?);
        let key = key.map_err(|_| wrong(format!("{} holds no private key that can sign", key_path.display())))?;
        check_authority(&certificate, &key).map_err(|what| wrong(format!("{}: {what}", pem_path.display())))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unmade)?;
        Ok(Self { issuer, pem, certificate })
    }

    /// A certificate that outlives its authority fails on a day nobody expects.
    fn bounded(&self, mut params: CertificateParams) -> Result<CertificateParams, Failure> {
        let (_, authority) = X509Certificate::from_der(&self.certificate).map_err(unmade)?;
        params.not_after = params.not_after.min(authority.validity().not_after.to_datetime());
        Ok(params)
    }
}

fn check_authority(certificate: &[u8], key: &KeyPair) -> Result<(), &'static str> {
    let Ok((_, authority)) = X509Certificate::from_der(certificate) else {
        return Err("the certificate cannot be read");
    };
    if !authority.is_ca() {
        return Err("this is the certificate of no authority");
    }
    if !authority.validity().is_valid() {
        return Err("the authority has expired or is not valid yet");
    }
    if authority.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("ca.key belongs to another certificate");
    }
    Ok(())
}

/// What all certificates have in common.
fn params(name: &str, days: u32) -> Result<CertificateParams, Failure> {
    if name.is_empty() || name.chars().count() > LONGEST_COMMON_NAME {
        return Err(wrong(format!(
            "`{name}`: the name of a subject has 1 to {LONGEST_COMMON_NAME} characters; a shorter one may come first"
        )));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(unmade)?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + DAY * days;
    Ok(params)
}

/// Positive, and 127 random bits without a leading zero.
fn serial() -> Result<SerialNumber, Failure> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(unmade)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)
}

/// A star may stand for the left-most label.
fn alternative_name(name: &str) -> Result<SanType, Failure> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let unfit = || wrong(format!("`{name}` is neither a DNS name nor an IP address"));
    DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).map_err(|_| unfit())?;
    name.try_into().map(SanType::DnsName).map_err(|_| unfit())
}

fn first_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    let mut blocks = Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
    blocks.find(|block| block.label == "CERTIFICATE").map(|block| block.contents.into())
}

fn fingerprint_line(file: &Path) -> Result<String, Failure> {
    let certificate = first_certificate(&contents(file)?);
    let certificate = certificate.ok_or_else(|| wrong(format!("{} holds no certificate", file.display())))?;
    Ok(format!("{}  {}\n", fingerprint(&certificate), file.display()))
}

fn contents(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| wrong(format!("{}: {}", path.display(), reason(&error))))
}

/// A new file even where one is to be overwritten: the old one's mode may be too wide, and it may be a link.
fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn wrong(what: String) -> Failure {
    Failure::new(Exit::Usage, what)
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{}: {}", path.display(), reason(error)))
}

fn unmade(error: impl Display) -> Failure {
    Failure::new(Exit::System, format!("the certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process;

    use clap::Parser;
    use tempfile::TempDir;
    use x509_parser::prelude::GeneralName;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn cert(folder: &TempDir, words: &[&str]) -> Result<String, (i32, String)> {
        let out = ["--out", folder.path().to_str().expect("UTF-8")];
        let line = Line::try_parse_from(["cert"].iter().chain(words).chain(&out)).expect("arguments");
        run(&line.arguments.command).map_err(|failure| (failure.exit as i32, failure.what))
    }

    fn made() -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for words in [&["ca"][..], &["server", "relay.example.com", "10.0.0.7", "::1"], &["client", "sensor"]] {
            cert(&folder, words).expect("made");
        }
        folder
    }

    fn pem(folder: &TempDir, name: &str) -> CertificateDer<'static> {
        first_certificate(&fs::read_to_string(folder.path().join(name)).expect("written")).expect("a certificate")
    }

    #[test]
    fn certificates_say_what_they_are_for() {
        let folder = made();
        let [ca, server, client] = ["ca.pem", "server.pem", "client.pem"].map(|name| pem(&folder, name));
        let [ca, server, client] = [&ca, &server, &client].map(|der| X509Certificate::from_der(der).expect("X.509").1);
        assert!(ca.is_ca() && !server.is_ca() && !client.is_ca());
        assert_eq!((server.subject().to_string(), server.issuer()), ("CN=relay.example.com".to_owned(), ca.subject()));
        let usage = |certificate: &X509Certificate<'_>| {
            let usage = certificate.extended_key_usage().expect("readable").expect("present").value;
            (usage.server_auth, usage.client_auth)
        };
        assert_eq!((usage(&server), usage(&client)), ((true, true), (false, true)));
        let names = server.subject_alternative_name().expect("readable").expect("present").value;
        let v6 = "::1".parse::<std::net::Ipv6Addr>().expect("an address").octets();
        let expected =
            [GeneralName::DNSName("relay.example.com"), GeneralName::IPAddress(&[10, 0, 0, 7]), GeneralName::IPAddress(&v6)];
        assert_eq!(names.general_names, expected);
        assert!(server.validity().is_valid() && server.raw_serial() != client.raw_serial());
        server.verify_signature(Some(ca.public_key())).expect("signed by the authority");
    }

    #[test]
    fn keys_are_for_their_owner_and_nothing_is_overwritten() {
        let folder = made();
        let key = folder.path().join("server.key");
        let mode = || fs::metadata(&key).expect("written").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        let old = fs::read(&key).expect("written");
        let (exit, what) = cert(&folder, &["server", "x"]).expect_err("exists");
        assert!(exit == 73 && what.ends_with("server.key exists: `--force` overwrites it"), "{what}");
        assert_eq!(fs::read(&key).expect("written"), old);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("allowed");
        cert(&folder, &["server", "x", "--force"]).expect("overwritten");
        assert!(mode() == 0o600 && fs::read(&key).expect("written") != old);
    }

    #[test]
    fn what_was_made_is_said_with_its_fingerprint() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = cert(&folder, &["ca"]).map_err(|(_, what)| what).expect("made");
        let path = folder.path().join("ca.pem");
        let line = run(&Command::Fingerprint { file: vec![path.clone()] }).ok().expect("readable");
        let print = fingerprint(&pem(&folder, "ca.pem"));
        assert_eq!(line, format!("{print}  {}\n", path.display()));
        assert_eq!(said.lines().last(), Some(print.as_str()));
    }

    #[test]
    fn a_certificate_does_not_outlive_its_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        cert(&folder, &["ca", "--days", "10"]).expect("made");
        cert(&folder, &["client", "a", "--basename", "a"]).expect("made");
        let end = |name| X509Certificate::from_der(&pem(&folder, name)).expect("X.509").1.validity().not_after.timestamp();
        assert_eq!(end("a.pem"), end("ca.pem"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let folder = made();
        for (words, what) in [
            (&["server", "a b"][..], "`a b` is neither a DNS name nor an IP address"),
            (&["server", "x", "--basename", "ca", "--force"], "`ca` cannot be the name of the files"),
            (&["server", "x", "--ca-dir", "/nowhere"], "/nowhere/ca.pem: No such file or directory"),
        ] {
            assert_eq!(cert(&folder, words), Err((64, what.to_owned())));
        }
        fs::copy(folder.path().join("client.key"), folder.path().join("ca.key")).expect("copied");
        let (_, what) = cert(&folder, &["server", "x", "--force"]).expect_err("another key");
        assert!(what.ends_with("ca.pem: ca.key belongs to another certificate"), "{what}");
    }

    /// Where openssl is installed.
    #[test]
    fn openssl_accepts_them() {
        let folder = made();
        for (file, purpose) in [("server.pem", "sslserver"), ("server.pem", "sslclient"), ("client.pem", "sslclient")] {
            let mut command = process::Command::new("openssl");
            command.current_dir(folder.path()).args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", file]);
            match command.output() {
                Ok(output) => assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            }
        }
    }
}

//! What this machine can really give: not what its version promises, but what holds when it is tried.

use std::fs::File;
use std::io;
use std::path::Path;

use super::confinement::Confinement;
use super::landlock;

/// Confines a thread, which ends with it, and looks whether `secret`, an existing file, is out of its reach and the network
/// too. Answers with the version of Landlock, or with what is missing, in one sentence.
pub fn restricted(secret: &Path) -> Result<u32, String> {
    let abi = landlock::abi().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no Landlock (Linux 5.13 and later can)".to_owned(),
        Some(libc::EOPNOTSUPP) => {
            "Landlock is switched off: add it to the kernel's parameter `lsm=`".to_owned()
        }
        _ => format!("the kernel does not let this process use Landlock: {error}"),
    })?;
    if abi < landlock::ABI_MIN {
        return Err(format!(
            "the kernel's Landlock is too old: version {abi}, needed is {} (Linux 6.2)",
            landlock::ABI_MIN
        ));
    }
    let secret = secret.to_owned();
    let trial = std::thread::Builder::new()
        .name("isolation probe".to_owned())
        .spawn(move || try_out(&secret))
        .map_err(|error| format!("it cannot be tried: {error}"))?;
    match trial.join() {
        Ok(outcome) => outcome.map(|()| abi),
        Err(_) => Err("trying it failed".to_owned()),
    }
}

/// To be called in a thread of its own, which is good for nothing else afterwards.
fn try_out(secret: &Path) -> Result<(), String> {
    let confinement = Confinement {
        without_network: true,
        writable: Vec::new(),
        readable: Vec::new(),
    };
    if let Err(error) = File::open(secret) {
        return Err(format!("it cannot be tried: {error}"));
    }
    let prepared = confinement
        .prepare()
        .map_err(|error| format!("it cannot be prepared: {error}"))?;
    prepared.put_on().map_err(|errno| {
        let error = io::Error::from_raw_os_error(errno);
        format!("the kernel refuses it: {error}")
    })?;
    if File::open(secret).is_ok() {
        return Err("the kernel takes the rules and does not keep them".to_owned());
    }
    if std::net::UdpSocket::bind("127.0.0.1:0").is_ok() {
        return Err("the kernel takes the filter and does not keep it".to_owned());
    }
    Ok(())
}

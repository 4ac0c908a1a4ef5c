//! TLS errors, described so that an operator knows what to do.

use std::io;
use std::time::Duration;

use rustls::{
    AlertDescription, CertificateError, HandshakeType, InvalidMessage, OtherError, PeerIncompatible,
};

use super::verifier::Untrusted;

/// The TLS handshake with `name` failed.
#[derive(Debug, thiserror::Error)]
#[error("TLS with {name} failed: {fault}")]
pub(crate) struct TlsFailure {
    name: String,
    #[source]
    pub(crate) fault: TlsFault,
}

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    /// The certificate is not accepted.
    #[error("its certificate {}", certificate_in_words(.0))]
    Certificate(CertificateError),
    /// The peer ended the handshake with an alert.
    #[error("{}", alert_in_words(*.0))]
    Alert(AlertDescription),
    /// Its first bytes are not TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// The peer sent bytes before the handshake.
    #[error("it sent data before the TLS handshake")]
    SpokeFirst,
    /// The peer violated the protocol, or there is no common version or cipher suite.
    #[error("{}", protocol_in_words(.0))]
    Protocol(rustls::Error),
    /// The connection failed during the handshake.
    #[error("the connection failed: {0}")]
    Ended(io::Error),
    /// The handshake did not finish within this time.
    #[error("the handshake did not finish within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No certificate can contain this name.
    #[error("no certificate can be issued for this name")]
    NameInvalid,
}

impl TlsFailure {
    pub(in super::super) fn new(name: &str, fault: TlsFault) -> Self {
        Self {
            name: name.to_owned(),
            fault,
        }
    }
}

impl TlsFault {
    /// Whether the peer speaks something else.
    pub(crate) fn is_not_tls(&self) -> bool {
        matches!(self, Self::NotTls | Self::SpokeFirst)
    }

    /// Whether the peer ended the handshake, or let it time out, without an explanation.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::TimedOut(_))
    }

    /// Whether the peer supports neither TLS 1.2 nor 1.3.
    pub(crate) fn is_version_too_old(&self) -> bool {
        use PeerIncompatible::ServerDoesNotSupportTls12Or13;
        matches!(
            self,
            Self::Alert(AlertDescription::ProtocolVersion)
                | Self::Protocol(rustls::Error::PeerIncompatible(
                    ServerDoesNotSupportTls12Or13
                ))
        )
    }
}

impl TlsFault {
    /// Whether the peer supports none of the offered protocols (ALPN).
    pub(crate) fn is_no_protocol(&self) -> bool {
        matches!(self, Self::Alert(AlertDescription::NoApplicationProtocol))
    }

    /// The fault in an error of the handshake, which may contain one of rustls.
    pub(super) fn of(error: io::Error) -> Self {
        use rustls::Error;
        match error.downcast::<Error>() {
            Ok(Error::InvalidCertificate(reason)) => Self::Certificate(reason),
            Ok(Error::AlertReceived(alert)) => Self::Alert(alert),
            // An unknown record type or version: neither is sent by a peer that speaks TLS.
            Ok(Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            )) => Self::NotTls,
            // An echo service.
            Ok(Error::InappropriateHandshakeMessage {
                got_type: HandshakeType::ClientHello,
                ..
            }) => Self::NotTls,
            Ok(error) => Self::Protocol(error),
            Err(error) => Self::Ended(error),
        }
    }
}

/// The alert that ended a connection after the handshake: this is when TLS 1.3 servers refuse a client certificate.
pub(crate) fn alert_in(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn certificate_in_words(error: &CertificateError) -> String {
    use CertificateError as Reason;
    let words = match error {
        Reason::UnknownIssuer => "is from an unknown CA",
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "is for a different name"
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "has expired",
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => "is not valid yet",
        Reason::Revoked => "has been revoked",
        Reason::InvalidPurpose | Reason::InvalidPurposeContext { .. } => "is not valid for servers",
        Reason::BadEncoding => "cannot be parsed",
        Reason::Other(OtherError(error)) => match error.downcast_ref::<Untrusted>() {
            Some(reason) => return reason.to_string(),
            None => return format!("is not accepted: {error}"),
        },
        reason => return format!("is not accepted: {reason}"),
    };
    words.to_owned()
}

fn alert_in_words(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let meaning = match alert {
        Alert::NoApplicationProtocol => {
            "it supports none of the offered HTTP versions; to reach a server that supports only HTTP/2, the client \
             must use HTTP/2 with this proxy"
        }
        Alert::ProtocolVersion => VERSION_TOO_OLD,
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "it has no TLS version or cipher suite in common with this proxy, or requires a client certificate \
             (tls.upstream.client_certificates)"
        }
        Alert::CertificateRequired | Alert::NoCertificate => {
            "it requires a client certificate (tls.upstream.client_certificates)"
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            "it rejected the client certificate (tls.upstream.client_certificates)"
        }
        Alert::UnrecognisedName => "it does not serve this name",
        alert => return format!("it sent the alert {alert:?}"),
    };
    format!("it sent the alert {alert:?}: {meaning}")
}

fn protocol_in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            VERSION_TOO_OLD.to_owned()
        }
        error => error.to_string(),
    }
}

const VERSION_TOO_OLD: &str = "it supports neither TLS 1.2 nor TLS 1.3";

//! What a certificate says, before it is signed (RFC 5280 §4.1).
//!
//! All certificates of one authority differ in their serials, times and hosts; the rest is put together once. Whether
//! the authority may sign, and until when, is decided before.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls::SignatureAlgorithm;
use rustls::pki_types::AlgorithmIdentifier;
use rustls::sign::SigningKey;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der::{self, BIT_STRING, Criticality, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET};
use super::subject::Subject;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// What all certificates of an authority have in common.
#[derive(Debug)]
pub(super) struct Template {
    /// The AlgorithmIdentifier of the signatures.
    pub(super) signature_algorithm: Vec<u8>,
    /// The authority's name, as it stands in its certificate.
    issuer: Vec<u8>,
    /// The SubjectPublicKeyInfo of every certificate.
    pub(super) public_key: Vec<u8>,
    /// What every certificate has but its host: constraints, usages and key identifiers.
    common_extensions: Vec<u8>,
}

/// The authority, as far as its certificates speak of it.
#[derive(Debug)]
pub(super) struct Issuer<'a> {
    /// Its name in DER.
    pub(super) name: &'a [u8],
    /// The identifier of its key.
    pub(super) key_id: &'a [u8],
    /// How it signs.
    pub(super) signs_by: AlgorithmIdentifier,
}

impl Template {
    /// # Errors
    /// The public half of the key cannot be had or read.
    pub(super) fn new(issuer: &Issuer<'_>, leaf_key: &dyn SigningKey) -> Result<Self, String> {
        let public_key = leaf_key
            .public_key()
            .ok_or("the key hides its public half")?;
        Ok(Self {
            signature_algorithm: der::element(SEQUENCE, &[issuer.signs_by.as_ref()]),
            issuer: issuer.name.to_vec(),
            common_extensions: common_extensions(&public_key, leaf_key.algorithm(), issuer.key_id)?,
            public_key: public_key.to_vec(),
        })
    }

    /// TBSCertificate for a host.
    pub(super) fn to_be_signed(
        &self,
        subject: &Subject,
        serial: &[u8],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Vec<u8> {
        let version_3 = der::element(der::constructed(0), &[&[INTEGER, 1, 2]]);
        let serial = der::element(INTEGER, &[serial]);
        let validity = der::element(SEQUENCE, &[&der::time(not_before), &der::time(not_after)]);
        let common_name = subject.common_name();
        let name = distinguished_name(common_name.as_deref());
        // RFC 5280 §4.1.2.6: critical if nothing else names the subject.
        let criticality = match common_name {
            Some(_) => Criticality::MayBeIgnored,
            None => Criticality::Critical,
        };
        let alt_name = der::extension(
            SUBJECT_ALT_NAME,
            criticality,
            &der::element(SEQUENCE, &[&subject.general_name()]),
        );
        let extensions = der::element(SEQUENCE, &[&alt_name, &self.common_extensions]);
        der::element(
            SEQUENCE,
            &[
                &version_3,
                &serial,
                &self.signature_algorithm,
                &self.issuer,
                &validity,
                &name,
                &self.public_key,
                &der::element(der::constructed(3), &[&extensions]),
            ],
        )
    }
}

/// The identifier of a public key after RFC 7093 §2 (1).
pub(super) fn key_id(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA256, public_key).as_ref()[..20].to_vec()
}

fn common_extensions(
    public_key_info: &[u8],
    algorithm: SignatureAlgorithm,
    authority_key_id: &[u8],
) -> Result<Vec<u8>, String> {
    use Criticality::{Critical, MayBeIgnored};
    let (_, parsed) =
        SubjectPublicKeyInfo::from_der(public_key_info).map_err(|error| error.to_string())?;
    // digitalSignature; RSA keys are also for the key exchange of TLS 1.2 (RFC 5280 §4.2.1.3).
    let usage: &[u8] = match algorithm {
        SignatureAlgorithm::RSA => &[BIT_STRING, 2, 5, 0xa0],
        _ => &[BIT_STRING, 2, 7, 0x80],
    };
    let server_auth = der::element(
        SEQUENCE,
        &[&der::element(OBJECT_IDENTIFIER, &[SERVER_AUTH])],
    );
    let own_id = der::element(
        der::OCTET_STRING,
        &[&key_id(&parsed.subject_public_key.data)],
    );
    let authority_id = der::element(
        SEQUENCE,
        &[&der::element(der::primitive(0), &[authority_key_id])],
    );
    // An empty one says that the subject is no authority.
    let constraints = der::element(SEQUENCE, &[]);
    Ok([
        der::extension(BASIC_CONSTRAINTS, Critical, &constraints),
        der::extension(KEY_USAGE, Critical, usage),
        der::extension(EXTENDED_KEY_USAGE, MayBeIgnored, &server_auth),
        der::extension(SUBJECT_KEY_IDENTIFIER, MayBeIgnored, &own_id),
        der::extension(AUTHORITY_KEY_IDENTIFIER, MayBeIgnored, &authority_id),
    ]
    .concat())
}

/// A name of one attribute, or the empty one.
fn distinguished_name(common_name: Option<&[u8]>) -> Vec<u8> {
    let Some(common_name) = common_name else {
        return der::element(SEQUENCE, &[]);
    };
    let attribute_type = der::element(OBJECT_IDENTIFIER, &[COMMON_NAME]);
    let attribute = der::element(SEQUENCE, &[&attribute_type, common_name]);
    der::element(SEQUENCE, &[&der::element(SET, &[&attribute])])
}

//! The bundled plugins, end to end: the real binary, the real library, and stand-ins for the named hosts.
//!
//! One module per plugin. Unit tests beside each rule cover its decisions; these tests cover what a client and an
//! origin see.

mod cache_responses;
mod cloudflare_dns_resolver;
mod custom_dns_resolver;
mod egress_allowlist;
mod filter_by_client_ip;
mod filter_by_url_regex;
mod host_spellings;
mod man_in_the_middle;
mod mock_rest_api;
mod modify_chunk_response;
mod modify_post_data;
mod modify_request_header;
mod program_name;
mod proxy_pool;
mod rate_limit;
mod record_har;
mod reverse_proxy;
mod schemes;
mod secret_inject;
mod shortlink;
mod tls_intercept_conditionally;
mod web_server_route;

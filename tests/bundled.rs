//! The bundled plugins at work: the real binary, the real library, and stand-ins for the named hosts.
//!
//! One module per plugin. What its rule decides is tested beside the rule; here stands what a client and an origin
//! see of it.

mod filter_by_client_ip;
mod filter_by_url_regex;
mod mock_rest_api;
mod modify_request_header;
mod program_name;
mod rate_limit;
mod egress_allowlist;
mod record_har;
mod secret_inject;
mod shortlink;
mod modify_post_data;
mod man_in_the_middle;
mod modify_chunk_response;
mod cache_responses;
mod tls_intercept_conditionally;
mod proxy_pool;
mod custom_dns_resolver;
mod cloudflare_dns_resolver;

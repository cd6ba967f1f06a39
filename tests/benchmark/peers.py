"""The proxies, each with one worker, and with what its manual advises for keeping connections."""

from .bed import PROXY_CORE, envoy, free_port, outrigger

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "taskset": "util-linux"}


def start_nginx(bed, port, backends):
    servers = "".join(f"server {b};" for b in backends)
    config = bed.file("nginx.conf", f"""
        worker_processes 1; daemon off; pid {bed.dir}/nginx.pid; error_log {bed.dir}/nginx.err;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 100000000;
            upstream b {{ {servers} keepalive 256; keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{port} backlog=4096;
                location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
                    client_max_body_size 0; proxy_request_buffering off; }} }}
        }}""")
    return bed.start(PROXY_CORE, port, "nginx", "-p", bed.dir, "-c", config)


def start_haproxy(bed, port, backends):
    servers = "\n".join(f" server s{i} {backend}" for i, backend in enumerate(backends))
    config = bed.file("haproxy.cfg", f"""
global
 nbthread 1
 maxconn 4000
defaults
 mode http
 timeout connect 1s
 timeout client 60s
 timeout server 60s
 http-reuse always
frontend f
 bind 127.0.0.1:{port}
 default_backend b
backend b
 balance roundrobin
{servers}
""")
    return bed.start(PROXY_CORE, port, "haproxy", "-db", "-f", config)


def start_envoy(bed, port, backends):
    endpoints = "\n".join(
        f"            - endpoint: {{ address: {{ socket_address: {{ address: {address}, port_value: {port} }} }} }}"
        for address, port in (backend.split(":") for backend in backends))
    config = bed.file("envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: f
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - {{ name: v, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: b }} }}] }}
  clusters:
  - name: b
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
{endpoints}
""")
    return bed.start(PROXY_CORE, port, envoy(), "-c", config, "--concurrency", "1",
                     "--disable-hot-restart", "-l", "error")


def start_outrigger(bed, port, backends, binary=None):
    endpoints = ", ".join(f'{{ address = "{backend}" }}' for backend in backends)
    config = bed.file("outrigger.toml", f"""
[admin]
listen = "127.0.0.1:{free_port()}"
[runtime]
workers = 1
[listeners.web]
listen = "127.0.0.1:{port}"
cluster = "b"
[clusters.b.discovery]
source = "static"
endpoints = [{endpoints}]
""")
    return bed.start(PROXY_CORE, port, binary or outrigger(), "run", "-c", config)


HTTP = {"nginx": start_nginx, "haproxy": start_haproxy, "envoy": start_envoy,
        "outrigger": start_outrigger}

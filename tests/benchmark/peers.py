"""The proxies, each with one worker, and with what its manual advises: HTTP, TCP and UDP."""

import functools

from .bed import PROXY_CORE, accepts, envoy, free_port, outrigger, takes_datagrams

# nginx has its streams in a package, and a module, of their own.
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PACKAGES = {"nginx": "nginx-light", STREAM_MODULE: "libnginx-mod-stream", "haproxy": "haproxy",
            "taskset": "util-linux"}


def start_nginx(bed, port, backends):
    return run_nginx(bed, port, f"""
        http {{
            access_log off; keepalive_requests 100000000;
            upstream b {{ {nginx_servers(backends)} keepalive 256; keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{port} backlog=4096;
                location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
                    client_max_body_size 0; proxy_request_buffering off; }} }}
        }}""")


def start_nginx_tcp(bed, port, backends):
    return run_nginx(bed, port, f"""
        stream {{
            upstream b {{ {nginx_servers(backends)} }}
            server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass b; proxy_timeout 1h; }}
        }}""")


def start_nginx_udp(bed, port, backends):
    return run_nginx(bed, port, f"""
        stream {{
            upstream b {{ {nginx_servers(backends)} }}
            server {{ listen 127.0.0.1:{port} udp; proxy_pass b; proxy_timeout 60s; }}
        }}""", ready=takes_datagrams)


def nginx_servers(backends):
    return "".join(f"server {backend};" for backend in backends)


def run_nginx(bed, port, block, ready=accepts):
    config = bed.file("nginx.conf", f"""
        load_module {STREAM_MODULE};
        worker_processes 1; daemon off; pid {bed.dir}/nginx-{port}.pid; error_log {bed.dir}/nginx.err;
        events {{ worker_connections 8192; }}
        {block}""")
    return bed.start(PROXY_CORE, port, "nginx", "-p", bed.dir, "-c", config, ready=ready)


def start_haproxy(bed, port, backends, mode="http", options=("http-reuse always",), timeout="60s"):
    options = "\n".join(f" {option}" for option in options)
    servers = "\n".join(f" server s{i} {backend}" for i, backend in enumerate(backends))
    config = bed.file("haproxy.cfg", f"""
global
 nbthread 1
 maxconn 4000
defaults
 mode {mode}
 timeout connect 1s
 timeout client {timeout}
 timeout server {timeout}
{options}
frontend f
 bind 127.0.0.1:{port}
 default_backend b
backend b
 balance roundrobin
{servers}
""")
    return bed.start(PROXY_CORE, port, "haproxy", "-db", "-f", config)


start_haproxy_tcp = functools.partial(start_haproxy, mode="tcp", timeout="1h")


def start_envoy(bed, port, backends):
    return run_envoy(bed, port, backends, f"""
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
            - {{ name: v, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: b }} }}] }}""")


def start_envoy_tcp(bed, port, backends):
    return run_envoy(bed, port, backends, f"""
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: f
          cluster: b""")


def start_envoy_udp(bed, port, backends):
    return run_envoy(bed, port, backends, f"""
  - address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {port} }} }}
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: f
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route
                cluster: b""", ready=takes_datagrams)


def run_envoy(bed, port, backends, listener, ready=accepts):
    endpoints = "\n".join(
        f"            - endpoint: {{ address: {{ socket_address: {{ address: {address}, port_value: {port} }} }} }}"
        for address, port in (backend.split(":") for backend in backends))
    config = bed.file("envoy.yaml", f"""
static_resources:
  listeners:{listener}
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
                     "--disable-hot-restart", "-l", "error", ready=ready)


def start_outrigger(bed, port, backends, protocol="http", ready=accepts, binary=None, control=None):
    endpoints = ", ".join(f'{{ address = "{backend}" }}' for backend in backends)
    config = bed.file("outrigger.toml", f"""
[admin]
listen = "127.0.0.1:{free_port()}"
[runtime]
workers = 1
[listeners.web]
listen = "127.0.0.1:{port}"
protocol = "{protocol}"
cluster = "b"
[clusters.b.discovery]
source = "static"
endpoints = [{endpoints}]
""")
    # By the environment, since an older binary to compare with may not know the key.
    return bed.start(PROXY_CORE, port, "env", f"OUTRIGGER_CONTROL__LISTEN={control or 'off'}",
                     binary or outrigger(), "run", "-c", config, ready=ready)


# Always: with `splice-auto` HAProxy hardly ever thinks that it is worth it on loopback.
SPLICE = ("option splice-request", "option splice-response")

HTTP = {"nginx": start_nginx, "haproxy": start_haproxy, "envoy": start_envoy,
        "outrigger": start_outrigger}
TCP = {"nginx": start_nginx_tcp,
       "haproxy": functools.partial(start_haproxy_tcp, options=()),
       "haproxy-splice": functools.partial(start_haproxy_tcp, options=SPLICE),
       "envoy": start_envoy_tcp,
       "outrigger": functools.partial(start_outrigger, protocol="tcp")}
# HAProxy has no UDP.
UDP = {"nginx": start_nginx_udp,
       "envoy": start_envoy_udp,
       "outrigger": functools.partial(start_outrigger, protocol="udp", ready=takes_datagrams)}

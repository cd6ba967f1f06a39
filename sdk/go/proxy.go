package outrigger

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// What version 2 of the PROXY protocol begins with (haproxy's proxy-protocol.txt, section 2.2), and the codes used.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyCommand   = 0x21
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
	proxyUnknown   = 0x00
	proxyAffinity  = 0xE0
)

const maxKey = 256

// ProxyHeader is what a TCP connection to the sidecar begins with to say its affinity key, 1 to 256 bytes: a header of
// the PROXY protocol, version 2, with the TLV 0xE0. The listener must have `proxy_protocol` and trust the app.
//
// The addresses are those of the client on whose behalf the connection is made, and of where it has connected to. With
// two zero ones the connection speaks for itself.
func ProxyHeader(key string, source, destination netip.AddrPort) ([]byte, error) {
	if key == "" || len(key) > maxKey {
		return nil, fmt.Errorf("outrigger: affinity key: want 1 to %d bytes, got %d", maxKey, len(key))
	}
	if source.IsValid() != destination.IsValid() {
		return nil, fmt.Errorf("outrigger: PROXY header: want both addresses or none, got %v and %v", source, destination)
	}
	family, body := proxyAddresses(source, destination)
	body = append(body, proxyAffinity)
	body = binary.BigEndian.AppendUint16(body, uint16(len(key)))
	body = append(body, key...)

	header := append([]byte(proxySignature), proxyCommand, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(body)))
	return append(header, body...), nil
}

// proxyAddresses are both addresses, then both ports. A pair of two families is written as of IPv6.
func proxyAddresses(source, destination netip.AddrPort) (family byte, bytes []byte) {
	from, to := source.Addr().Unmap(), destination.Addr().Unmap()
	switch {
	case !source.IsValid():
		return proxyUnknown, nil
	case from.Is4() && to.Is4():
		family, bytes = proxyTCP4, append(from.AsSlice(), to.AsSlice()...)
	default:
		from16, to16 := from.As16(), to.As16()
		family, bytes = proxyTCP6, append(from16[:], to16[:]...)
	}
	bytes = binary.BigEndian.AppendUint16(bytes, source.Port())
	return family, binary.BigEndian.AppendUint16(bytes, destination.Port())
}

// SPDX-License-Identifier: Apache-2.0

// Package conformance pins containerd's shim test suite: `go test -c` builds it
// from here with the versions and sums of go.mod and go.sum.
package conformance

import _ "github.com/containerd/shimtest"

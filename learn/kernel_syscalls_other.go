//go:build !amd64 && !arm64

package learn

// callNames is empty where the recorder does not know the machine.
const callNames = ""

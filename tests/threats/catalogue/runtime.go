package catalogue

// The runtime and containerd.
func runtime() []Row {
	return []Row{}
}

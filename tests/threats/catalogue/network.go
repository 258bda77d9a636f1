package catalogue

// Network.
func network() []Row {
	return []Row{}
}

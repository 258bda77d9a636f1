package catalogue

// The launcher's own inputs and files.
func launcher() []Row {
	return []Row{}
}

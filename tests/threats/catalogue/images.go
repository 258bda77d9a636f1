package catalogue

// What an image says and holds.
func images() []Row {
	return []Row{}
}

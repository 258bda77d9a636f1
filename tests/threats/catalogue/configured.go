package catalogue

// What is configured but not in force.
func configured() []Row {
	return []Row{}
}

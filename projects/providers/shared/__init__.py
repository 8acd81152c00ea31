"""What several vendors use: sound, sentences, deadlines, weights from the hub, probes. It knows no vendor."""

"""Training: teach, distill, fine-tune on episodes, quantize. The only part, with `edgekd.export`, that needs torch."""

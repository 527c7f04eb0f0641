"""What people read about a version.

card               the model card
plots              loss and score curves
precision_recall   precision-recall curves of each label
summary            display names of metrics, and the headline of a version
"""
